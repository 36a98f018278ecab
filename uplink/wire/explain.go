package wire

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
)

// parse decodes one JSON object, naming the type that was expected.
func parse(b []byte, what string, into any) error {
	err := json.Unmarshal(b, into)
	var at *json.UnmarshalTypeError
	var when *timeError
	root := reflect.TypeOf(into).Elem()
	switch {
	case err == nil:
		return nil
	case errors.As(err, &when):
		return invalid("%s%v", timeKey(b, root), when)
	case errors.As(err, &at):
		return invalid("%sexpected %s, got %s", keyOf(root, at), expected(at.Type), got(at.Value))
	}
	return fmt.Errorf("%w: not the JSON of a %s: %w", ErrInvalid, what, err)
}

// keyOf names the key of a value of the wrong type, such as "detections[].box: ".
// It is empty for the whole message.
func keyOf(t reflect.Type, at *json.UnmarshalTypeError) string {
	if at.Field == "" {
		return ""
	}
	var out []string
	for name := range strings.SplitSeq(at.Field, ".") {
		field, ok := fieldOf(t, name)
		if !ok { // of a type that reads itself
			return at.Field + ": "
		}
		if t = field.Type; t.Kind() == reflect.Slice && t != at.Type {
			name, t = name+"[]", t.Elem() // one of it is wrong, not the list
		}
		out = append(out, name)
	}
	return strings.Join(out, ".") + ": "
}

// fieldOf is the field of a struct by its key.
func fieldOf(t reflect.Type, key string) (reflect.StructField, bool) {
	if t.Kind() != reflect.Struct {
		return reflect.StructField{}, false
	}
	for field := range t.Fields() {
		if name, _ := keyAndOptions(field); name == key {
			return field, true
		}
	}
	return reflect.StructField{}, false
}

func keyAndOptions(f reflect.StructField) (key, options string) {
	key, options, _ = strings.Cut(f.Tag.Get("json"), ",")
	return key, options
}

// timeKey names the first key of the message whose time cannot be read.
func timeKey(b []byte, t reflect.Type) string {
	var values map[string]json.RawMessage
	if t.Kind() != reflect.Struct || json.Unmarshal(b, &values) != nil {
		return ""
	}
	for field := range t.Fields() {
		key, _ := keyAndOptions(field)
		if value, found := values[key]; found && field.Type == reflect.TypeFor[Time]() && json.Unmarshal(value, new(Time)) != nil {
			return key + ": "
		}
	}
	return ""
}

// expected names what a type is in JSON.
func expected(t reflect.Type) string {
	switch t.Kind() {
	case reflect.String:
		return "a string"
	case reflect.Bool:
		return "true or false"
	case reflect.Float32, reflect.Float64:
		return "a number"
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return "a whole number from 0"
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return "a whole number"
	case reflect.Slice:
		return "an array"
	case reflect.Struct:
		return "an object {" + strings.Join(keysOf(t), ", ") + "}"
	}
	return "an object"
}

// keysOf are those that may not be left out.
func keysOf(t reflect.Type) (keys []string) {
	for field := range t.Fields() {
		if key, options := keyAndOptions(field); key != "" && key != "-" && !strings.HasPrefix(options, "omit") {
			keys = append(keys, key)
		}
	}
	return keys
}

// got names what encoding/json calls a value.
func got(value string) string {
	switch {
	case value == "bool":
		return "true or false"
	case value == "array", value == "object":
		return "an " + value
	case strings.HasPrefix(value, "number "):
		return "the " + value
	}
	return "a " + value
}
