package forward

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"text/template"
)

// functions are what a template may call beside `allowed`. None returns more
// than it was given.
var functions = template.FuncMap{
	"has":     func(v any, path ...string) bool { _, ok := lookup(v, path); return ok },
	"get":     get,
	"default": orDefault,
	"lower":   strings.ToLower,
	"eq":      func(a any, b ...any) bool { return slices.ContainsFunc(b, func(x any) bool { return same(a, x) }) },
	"ne":      func(a, b any) bool { return !same(a, b) },
	"lt":      func(a, b any) (bool, error) { n, err := compare(a, b); return n < 0, err },
	"le":      func(a, b any) (bool, error) { n, err := compare(a, b); return n <= 0, err },
	"gt":      func(a, b any) (bool, error) { n, err := compare(a, b); return n > 0, err },
	"ge":      func(a, b any) (bool, error) { n, err := compare(a, b); return n >= 0, err },
}

// lookup follows the names of fields.
func lookup(v any, path []string) (any, bool) {
	for _, name := range path {
		m, ok := v.(map[string]any)
		if !ok {
			return nil, false
		}
		if v, ok = m[name]; !ok {
			return nil, false
		}
	}
	return v, true
}

// get is a field, or an empty text.
func get(v any, path ...string) any {
	if found, ok := lookup(v, path); ok && found != nil {
		return found
	}
	return ""
}

// orDefault is v, or otherwise where v is nothing: {{ .payload.x | default "y" }}.
func orDefault(otherwise, v any) any {
	if v == nil || v == "" {
		return otherwise
	}
	return v
}

// number reads what JSON and templates write as numbers.
func number(v any) (float64, bool) {
	switch n := v.(type) {
	case int64:
		return float64(n), true
	case int:
		return float64(n), true
	case float64:
		return n, true
	case json.Number:
		f, err := n.Float64()
		return f, err == nil
	}
	return 0, false
}

// same compares numbers by value, and everything else that is no list or
// mapping as it is.
func same(a, b any) bool {
	x, isX := number(a)
	y, isY := number(b)
	if isX && isY {
		return x == y
	}
	s, isS := scalar(a)
	t, isT := scalar(b)
	return isS && isT && isX == isY && s == t && isBool(a) == isBool(b)
}

func isBool(v any) bool { _, ok := v.(bool); return ok }

// compare orders two numbers, or two texts.
func compare(a, b any) (int, error) {
	x, isX := number(a)
	y, isY := number(b)
	if isX && isY {
		return cmp.Compare(x, y), nil
	}
	s, isS := a.(string)
	t, isT := b.(string)
	if isS && isT {
		return cmp.Compare(s, t), nil
	}
	return 0, fmt.Errorf("got %T and %T, expected two numbers or two texts", a, b)
}

// scalar is a text, number or truth value as a text.
func scalar(v any) (string, bool) {
	switch s := v.(type) {
	case string:
		return s, true
	case json.Number:
		return s.String(), true
	case int64:
		return strconv.FormatInt(s, 10), true
	case int:
		return strconv.Itoa(s), true
	case float64:
		return strconv.FormatFloat(s, 'g', -1, 64), true
	case bool:
		return strconv.FormatBool(s), true
	}
	return "", false
}
