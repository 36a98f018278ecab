package strictyaml

import (
	"encoding"
	"fmt"
	"maps"
	"reflect"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// Bounds of one decoding. Aliases can make a small text stand for an enormous tree.
const (
	maxValues = 100_000
	maxDepth  = 64
)

// decoder fills Go values from nodes and collects what is wrong.
type decoder struct {
	file     string
	lines    bool // the lines of nodes mean something to the reader of the problems
	problems []Problem
	places   map[string]place
	values   int
	depth    int
	gaveUp   bool
}

// at is the key that is being decoded and the line where it is written.
type at struct {
	path string
	line int
}

func (a at) key(name string, line int) at {
	if a.path == "" {
		return at{path: name, line: line}
	}
	return at{path: a.path + "." + name, line: line}
}

func (a at) index(i, line int) at {
	return at{path: fmt.Sprintf("%s[%d]", a.path, i), line: line}
}

func (d *decoder) report(a at, format string, args ...any) {
	p := Problem{File: d.file, Key: a.path, Message: fmt.Sprintf(format, args...)}
	if d.lines {
		p.Line = a.line
	}
	d.problems = append(d.problems, p)
}

// place remembers where a key is written.
func (d *decoder) place(a at) {
	if a.path == "" {
		return
	}
	p := place{file: d.file}
	if d.lines {
		p.line = a.line
	}
	d.places[a.path] = p
}

// forgetElements forgets where the elements of a list were written that a variable replaces as a whole.
func (d *decoder) forgetElements(a at) {
	if d.lines {
		return
	}
	maps.DeleteFunc(d.places, func(path string, _ place) bool { return strings.HasPrefix(path, a.path+"[") })
}

// firstSet names the line of the first of two equal keys.
func (d *decoder) firstSet(line int) string {
	if !d.lines {
		return ""
	}
	return fmt.Sprintf(", first set on line %d", line)
}

// enter counts one more value, and reports once when there are too many or they nest too deep.
func (d *decoder) enter(a at) bool {
	d.values++
	if d.gaveUp {
		return false
	}
	if d.values > maxValues || d.depth >= maxDepth {
		d.gaveUp = true
		d.report(a, "too much configuration: expected at most %d values, %d deep", maxValues, maxDepth)
		return false
	}
	return true
}

// value decodes n into v, which is settable. A null keeps what v holds.
func (d *decoder) value(n *yaml.Node, v reflect.Value, a at) {
	if !d.enter(a) {
		return
	}
	d.depth++
	defer func() { d.depth-- }()
	d.place(a)
	n = resolve(n)
	if isNull(n) {
		return
	}
	if isLeaf(v.Type()) {
		d.leaf(n, v, a)
		return
	}
	if ex, ok := v.Addr().Interface().(Exampler); ok {
		defer d.exemplify(ex.Example(), v, a, len(d.problems))
	}
	switch v.Kind() {
	case reflect.Pointer:
		d.pointer(n, v, a)
	case reflect.Struct:
		d.structure(n, v, a)
	case reflect.Slice:
		d.list(n, v, a)
	case reflect.Map:
		d.mapping(n, v, a)
	}
}

// exemplify puts one problem in the place of those that came after the first before, where the first of them is.
func (d *decoder) exemplify(example string, v reflect.Value, a at, before int) {
	if len(d.problems) == before || d.gaveUp {
		return
	}
	first := d.problems[before]
	d.problems = d.problems[:before]
	d.report(at{path: a.path, line: first.Line}, "expected %s", example)
	v.SetZero()
}

func (d *decoder) pointer(n *yaml.Node, v reflect.Value, a at) {
	target := pointed(v)
	d.value(n, target, a)
	v.Set(target.Addr())
}

func (d *decoder) structure(n *yaml.Node, v reflect.Value, a at) {
	if n.Kind != yaml.MappingNode {
		d.report(a, "expected a mapping of keys, got %s", describe(n))
		return
	}
	fields := fieldsOf(v.Type())
	for _, e := range d.entries(n, a) {
		here := a.key(e.key.Value, e.key.Line)
		if f, ok := fields[e.key.Value]; ok {
			d.value(e.value, v.FieldByIndex(f), here)
			continue
		}
		d.place(here)
		d.report(here, "unknown key%s", suggestion(e.key.Value, fields))
	}
}

func (d *decoder) list(n *yaml.Node, v reflect.Value, a at) {
	if n.Kind != yaml.SequenceNode {
		d.report(a, "expected a list, got %s", describe(n))
		return
	}
	d.forgetElements(a)
	out := reflect.MakeSlice(v.Type(), 0, min(len(n.Content), maxValues))
	for i, c := range n.Content {
		if d.gaveUp {
			return
		}
		here := a.index(i, c.Line)
		element := fresh(v.Type().Elem())
		if isNull(resolve(c)) {
			d.report(here, "expected %s, got nothing", expected(element.Type()))
		}
		d.value(c, element, here)
		out = reflect.Append(out, element)
	}
	v.Set(out)
}

// mapping decodes into a copy of the map, so that a map shared by the defaults of two configurations stays as it is.
func (d *decoder) mapping(n *yaml.Node, v reflect.Value, a at) {
	if n.Kind != yaml.MappingNode {
		d.report(a, "expected a mapping of keys, got %s", describe(n))
		return
	}
	out := cloneMap(v)
	for _, e := range d.entries(n, a) {
		key := mapKey(v, e.key.Value)
		element := mapElement(out, key)
		d.value(e.value, element, a.key(e.key.Value, e.key.Line))
		out.SetMapIndex(key, element)
	}
	v.Set(out)
}

// leaf decodes what has no keys of ours below it.
func (d *decoder) leaf(n *yaml.Node, v reflect.Value, a at) {
	switch target := v.Addr().Interface().(type) {
	case *yaml.Node:
		*target = *n
		return
	case yaml.Unmarshaler:
		if err := target.UnmarshalYAML(n); err != nil {
			d.report(a, "%s", libraryPrefix.ReplaceAllString(err.Error(), ""))
		}
		return
	case encoding.TextUnmarshaler:
		d.text(n, target, a)
		return
	}
	if v.Type() == reflect.TypeFor[time.Duration]() {
		d.duration(n, v, a)
		return
	}
	if !fits(n, v.Type()) {
		d.report(a, "expected %s, got %s", expected(v.Type()), describe(n))
		return
	}
	switch err := n.Decode(v.Addr().Interface()); {
	case err == nil:
	case isScalarKind(v.Kind()):
		d.report(a, "expected %s, got %s", expected(v.Type()), describe(n))
	default:
		d.report(a, "%s", libraryPrefix.ReplaceAllString(err.Error(), ""))
	}
}

func (d *decoder) duration(n *yaml.Node, v reflect.Value, a at) {
	length, err := time.ParseDuration(n.Value)
	if n.Kind != yaml.ScalarNode || err != nil {
		d.report(a, "expected %s, got %s", expected(v.Type()), describe(n))
		return
	}
	v.SetInt(int64(length))
}

func (d *decoder) text(n *yaml.Node, target encoding.TextUnmarshaler, a at) {
	if n.Kind != yaml.ScalarNode {
		d.report(a, "expected text, got %s", describe(n))
		return
	}
	if err := target.UnmarshalText([]byte(n.Value)); err != nil {
		d.report(a, "got %s: %s", describe(n), err)
	}
}

// fresh returns a new settable value of type t with the defaults of its [Defaulter].
func fresh(t reflect.Type) reflect.Value {
	p := reflect.New(t)
	if def, ok := p.Interface().(Defaulter); ok {
		def.SetDefaults()
	}
	return p.Elem()
}

// pointed returns a copy of what v points to, or a fresh value where it points nowhere.
func pointed(v reflect.Value) reflect.Value {
	target := fresh(v.Type().Elem())
	if !v.IsNil() {
		target.Set(v.Elem())
	}
	return target
}

func mapKey(v reflect.Value, key string) reflect.Value {
	return reflect.ValueOf(key).Convert(v.Type().Key())
}

// mapElement returns a settable copy of the value of key, or a fresh one where the map has none.
func mapElement(m, key reflect.Value) reflect.Value {
	element := fresh(m.Type().Elem())
	if old := m.MapIndex(key); old.IsValid() {
		element.Set(old)
	}
	return element
}

func cloneMap(v reflect.Value) reflect.Value {
	out := reflect.MakeMapWithSize(v.Type(), v.Len())
	for it := v.MapRange(); it.Next(); {
		out.SetMapIndex(it.Key(), it.Value())
	}
	return out
}
