package strictyaml

import (
	"cmp"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// step leads from a value to one below it: a field, an element or the value of a key.
type step struct {
	field []int
	name  string // of the field or the key, empty for an element
	index int    // of the element
}

// variable is one variable of the environment and the key that its name stands for.
type variable struct {
	name, value string
	steps       []step
}

// overlay sets what the variables stand for, wholes before their parts, and returns what is wrong with them, by name.
func overlay(environ []string, prefix string, v reflect.Value, places map[string]place) []Problem {
	var problems []Problem
	var known []variable
	for name, value := range variables(environ, prefix) {
		steps, ok := lookUp(v, strings.TrimPrefix(name, prefix))
		if ok && len(steps) > 0 {
			known = append(known, variable{name, value, steps})
			continue
		}
		problems = append(problems, Problem{File: "environment " + name, Message: "no such key"})
	}
	slices.SortFunc(known, func(a, b variable) int { return slices.CompareFunc(a.steps, b.steps, compareSteps) })
	for _, k := range known {
		d := &decoder{file: "environment " + k.name, places: places}
		d.assign(v, k.steps, k.value, at{})
		problems = append(problems, d.problems...)
	}
	slices.SortStableFunc(problems, func(a, b Problem) int { return cmp.Compare(a.File, b.File) })
	return problems
}

// variables returns those that begin with prefix; the last of one name wins.
func variables(environ []string, prefix string) map[string]string {
	out := make(map[string]string)
	for _, pair := range environ {
		name, value, ok := strings.Cut(pair, "=")
		if ok && strings.HasPrefix(name, prefix) && !strings.HasPrefix(name, prefix+"TEST_") {
			out[name] = value
		}
	}
	return out
}

func compareSteps(a, b step) int {
	return cmp.Or(cmp.Compare(a.name, b.name), cmp.Compare(a.index, b.index))
}

// lookUp returns the way from v to the key that rest names. Keys contain underscores themselves, so the longest key that
// leads to an end is taken.
func lookUp(v reflect.Value, rest string) ([]step, bool) {
	if !isLeaf(v.Type()) && v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return lookUp(reflect.Zero(v.Type().Elem()), rest)
		}
		return lookUp(v.Elem(), rest)
	}
	switch {
	case rest == "":
		return nil, true
	case isLeaf(v.Type()):
		return nil, false
	case v.Kind() == reflect.Struct:
		return lookUpField(v, rest)
	case v.Kind() == reflect.Slice:
		return lookUpElement(v, rest)
	}
	return lookUpKey(v, rest)
}

func lookUpField(v reflect.Value, rest string) ([]step, bool) {
	fields := fieldsOf(v.Type())
	for _, name := range longestFirst(fields) {
		below, ok := cutName(rest, environName(name))
		if !ok {
			continue
		}
		if steps, ok := lookUp(v.FieldByIndex(fields[name]), below); ok {
			return append([]step{{field: fields[name], name: name}}, steps...), true
		}
	}
	return nil, false
}

func lookUpElement(v reflect.Value, rest string) ([]step, bool) {
	digits, below, more := strings.Cut(rest, "_")
	index, err := strconv.ParseUint(digits, 10, 31)
	if err != nil || more && below == "" {
		return nil, false
	}
	element := reflect.Zero(v.Type().Elem())
	if int(index) < v.Len() {
		element = v.Index(int(index))
	}
	steps, ok := lookUp(element, below)
	return append([]step{{index: int(index)}}, steps...), ok
}

// lookUpKey prefers a key that the map has, then one that leaves a name for the value's own keys; a new key is in lower
// case.
func lookUpKey(v reflect.Value, rest string) ([]step, bool) {
	have := make(map[string]reflect.Value, v.Len())
	for it := v.MapRange(); it.Next(); {
		have[it.Key().String()] = it.Value()
	}
	for _, name := range longestFirst(have) {
		if below, ok := cutName(rest, environName(name)); ok {
			if steps, ok := lookUp(have[name], below); ok {
				return append([]step{{name: name}}, steps...), true
			}
		}
	}
	for i := len(rest) - 2; i > 0 && !isLeaf(v.Type().Elem()); i-- {
		if rest[i] != '_' {
			continue
		}
		if steps, ok := lookUp(reflect.Zero(v.Type().Elem()), rest[i+1:]); ok {
			return append([]step{{name: strings.ToLower(rest[:i])}}, steps...), true
		}
	}
	return []step{{name: strings.ToLower(rest)}}, true
}

// environName returns the key as it is written in the name of a variable.
func environName(key string) string {
	return strings.ToUpper(strings.NewReplacer("-", "_", ".", "_").Replace(key))
}

// cutName returns what follows name and its "_" in rest; "" where rest is the name.
func cutName(rest, name string) (below string, ok bool) {
	if rest == name {
		return "", true
	}
	below, ok = strings.CutPrefix(rest, name+"_")
	return below, ok && below != ""
}

func longestFirst[V any](m map[string]V) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int {
		return cmp.Or(cmp.Compare(len(b), len(a)), cmp.Compare(a, b))
	})
	return names
}

// assign walks the steps from v, making what is missing on the way, and decodes raw at their end.
func (d *decoder) assign(v reflect.Value, steps []step, raw string, a at) {
	if !isLeaf(v.Type()) && v.Kind() == reflect.Pointer {
		target := pointed(v)
		d.assign(target, steps, raw, a)
		v.Set(target.Addr())
		return
	}
	if len(steps) == 0 {
		if n := d.environNode(raw, v.Type(), a); n != nil {
			d.value(n, v, a)
		}
		return
	}
	if _, have := d.places[a.path]; !have {
		d.place(a)
	}
	s, below := steps[0], steps[1:]
	switch v.Kind() {
	case reflect.Struct:
		d.assign(v.FieldByIndex(s.field), below, raw, a.key(s.name, 0))
	case reflect.Slice:
		d.assignElement(v, s.index, below, raw, a)
	case reflect.Map:
		out, key := cloneMap(v), mapKey(v, s.name)
		element := mapElement(out, key)
		d.assign(element, below, raw, a.key(s.name, 0))
		out.SetMapIndex(key, element)
		v.Set(out)
	}
}

// assignElement works on a copy of the list, which may be shared by the defaults of two configurations.
func (d *decoder) assignElement(v reflect.Value, index int, below []step, raw string, a at) {
	if index > v.Len() {
		d.report(a.index(index, 0), "expected an index of at most %d, the list has %d elements", v.Len(), v.Len())
		return
	}
	out := reflect.AppendSlice(reflect.MakeSlice(v.Type(), 0, v.Len()+1), v)
	if index == v.Len() {
		out = reflect.Append(out, fresh(v.Type().Elem()))
	}
	d.assign(out.Index(index), below, raw, a.index(index, 0))
	v.Set(out)
}

// environNode returns the value of a variable as a node, nil when it is not valid YAML.
func (d *decoder) environNode(raw string, t reflect.Type, a at) *yaml.Node {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if isText(t) {
		return textNode(raw)
	}
	if text := strings.TrimSpace(raw); t.Kind() == reflect.Slice && isText(t.Elem()) && text != "" {
		if !strings.HasPrefix(text, "[") && !strings.HasPrefix(text, "- ") && !strings.Contains(text, ",") {
			return &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq", Content: []*yaml.Node{textNode(raw)}}
		}
	}
	return d.parse([]byte(raw), a)
}

func isText(t reflect.Type) bool {
	p := reflect.PointerTo(t)
	if p.Implements(reflect.TypeFor[yaml.Unmarshaler]()) {
		return false
	}
	return t.Kind() == reflect.String || decodesItself(t)
}

func textNode(s string) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: s}
}
