package forward

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"
)

// document is a message that was read: as values for the templates and as the
// JSON object of the event, or err.
type document struct {
	value any
	json  json.RawMessage
	err   error
}

// readJSON reads one JSON value. An object becomes the event's payload as it
// is; any other value is the field "value" of one.
func readJSON(raw []byte) document {
	if !utf8.Valid(raw) {
		return document{err: errNotText}
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return document{err: notJSON(raw, err)}
	}
	if _, err := d.Token(); err != io.EOF {
		return document{err: fmt.Errorf("not JSON: more follows at byte %d", d.InputOffset())}
	}
	doc := document{value: plain(v), json: bytes.TrimSpace(raw)}
	if _, object := v.(map[string]any); !object {
		doc.json = append(append([]byte(`{"value":`), doc.json...), '}')
	}
	return doc
}

// notJSON says in words where a message stops being JSON.
func notJSON(raw []byte, err error) error {
	var at *json.SyntaxError
	switch {
	case len(bytes.TrimSpace(raw)) == 0:
		return errors.New("not JSON: the message is empty")
	case errors.As(err, &at) && at.Offset > 0 && at.Offset <= int64(len(raw)):
		found, _ := utf8.DecodeRune(raw[at.Offset-1:])
		return fmt.Errorf("not JSON: %q does not belong there, at byte %d", found, at.Offset)
	case errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("not JSON: it ends before its time")
	}
	return fmt.Errorf("not JSON: %w", err)
}

// kindOf names what a value of JSON is.
func kindOf(v any) string {
	switch v.(type) {
	case nil:
		return "null"
	case []any:
		return "an array"
	case string:
		return "a text"
	case bool:
		return "true or false"
	case map[string]any:
		return "an object"
	}
	return "a number"
}

// plain turns numbers into those that templates know, which print whole
// numbers without an exponent.
func plain(v any) any {
	switch x := v.(type) {
	case map[string]any:
		for k, e := range x {
			x[k] = plain(e)
		}
	case []any:
		for i, e := range x {
			x[i] = plain(e)
		}
	case json.Number:
		if n, err := x.Int64(); err == nil {
			return n
		}
		if f, err := x.Float64(); err == nil && bytes.ContainsAny([]byte(x), ".eE") {
			return f
		}
	}
	return v
}
