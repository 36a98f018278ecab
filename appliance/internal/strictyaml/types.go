package strictyaml

import (
	"encoding"
	"fmt"
	"reflect"
	"strconv"
	"time"

	"go.yaml.in/yaml/v3"
)

// maxQuoted bounds how much of a wrong value a problem repeats, in runes.
const maxQuoted = 60

// isLeaf tells whether values of type t have no keys that this package decodes itself.
func isLeaf(t reflect.Type) bool {
	if t == reflect.TypeFor[yaml.Node]() || decodesItself(t) {
		return true
	}
	switch t.Kind() {
	case reflect.Struct, reflect.Slice, reflect.Pointer:
		return false
	case reflect.Map:
		return t.Key().Kind() != reflect.String || decodesItself(t.Key())
	}
	return true
}

func decodesItself(t reflect.Type) bool {
	p := reflect.PointerTo(t)
	return p.Implements(reflect.TypeFor[yaml.Unmarshaler]()) || p.Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
}

func isScalarKind(k reflect.Kind) bool {
	return k == reflect.String || k >= reflect.Bool && k <= reflect.Float64
}

// expected names what a value of type t is written as.
func expected(t reflect.Type) string {
	switch k := t.Kind(); {
	case decodesItself(t):
		return "a value"
	case t == reflect.TypeFor[time.Duration]():
		return `a duration such as 30s or 5m`
	case k == reflect.Pointer:
		return expected(t.Elem())
	case k == reflect.Bool:
		return "true or false"
	case k >= reflect.Int && k <= reflect.Int64:
		return "a whole number" + within(t)
	case k >= reflect.Uint && k <= reflect.Uintptr:
		return "a whole number of 0 or more" + within(t)
	case k == reflect.Float32 || k == reflect.Float64:
		return "a number"
	case k == reflect.String:
		return "text"
	case k == reflect.Slice || k == reflect.Array:
		return "a list"
	case k == reflect.Map || k == reflect.Struct:
		return "a mapping of keys"
	}
	return "a value"
}

// within names the bounds of the small integer types; nobody meets those of the others by honest mistake.
func within(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Int8, reflect.Int16, reflect.Int32:
		high := int64(1)<<(t.Bits()-1) - 1
		return fmt.Sprintf(" from %d to %d", -high-1, high)
	case reflect.Uint8, reflect.Uint16, reflect.Uint32:
		return fmt.Sprintf(" and at most %d", uint64(1)<<t.Bits()-1)
	}
	return ""
}

// fits tells whether n is written as a t is. The library is more lenient: it cuts fractions off, for one.
func fits(n *yaml.Node, t reflect.Type) bool {
	tag := n.ShortTag()
	switch k := t.Kind(); {
	case !isScalarKind(k):
		return true
	case n.Kind != yaml.ScalarNode:
		return false
	case k >= reflect.Int && k <= reflect.Uintptr:
		return tag == "!!int"
	case k == reflect.Float32 || k == reflect.Float64:
		return tag == "!!int" || tag == "!!float"
	}
	return true
}

// describe names what is written at n, with the value where it is short.
func describe(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.MappingNode:
		return "a mapping"
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case isNull(n):
		return "nothing"
	}
	value := []rune(n.Value)
	if len(value) > maxQuoted {
		value = append(value[:maxQuoted:maxQuoted], '…')
	}
	if n.ShortTag() == "!!str" {
		return strconv.Quote(string(value))
	}
	return string(value)
}
