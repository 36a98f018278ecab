package strictyaml

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// fieldsOf returns the index path of each field of struct type t by its key. Of two fields with one key the outer one
// counts.
func fieldsOf(t reflect.Type) map[string][]int {
	fields := make(map[string][]int)
	var inlined []reflect.StructField
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		switch {
		case !f.IsExported() || name == "-":
		case options == "inline" && f.Type.Kind() == reflect.Struct:
			inlined = append(inlined, f)
		case name == "":
			fields[strings.ToLower(f.Name)] = f.Index
		default:
			fields[name] = f.Index
		}
	}
	for _, f := range inlined {
		for name, index := range fieldsOf(f.Type) {
			if _, have := fields[name]; !have {
				fields[name] = append(slices.Clone(f.Index), index...)
			}
		}
	}
	return fields
}

// suggestion returns `, did you mean "x"?` for the known key that is nearest to key, or nothing when none is near.
func suggestion(key string, known map[string][]int) string {
	const longest = 64
	if len(key) > longest {
		return ""
	}
	best, distance := "", max(2, len(key)/3)+1
	for _, name := range slices.Sorted(maps.Keys(known)) {
		if n := editDistance(strings.ToLower(key), name); n < distance && n < len(name) {
			best, distance = name, n
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf(", did you mean %q?", best)
}

// editDistance counts the bytes to insert, delete or replace to make b of a (Levenshtein).
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}
