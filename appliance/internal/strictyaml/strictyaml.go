// Package strictyaml decodes a YAML configuration file and the environment into a struct and reports everything that is
// wrong with them at once.
//
// It owns the way from text to typed fields: every problem names the file, the line and the key, or the environment
// variable. It promises that the caller's pre-filled defaults stay where a key is absent or null, that no key is ever
// ignored, and that hostile input yields problems and never a panic. It refuses unknown and duplicate keys, a second
// document, a fraction for a whole number and a bare number for a duration. What values mean is the caller's business;
// [Source.Problem] lets that validation name file and line as well.
//
// Fields are named by their `yaml:"name"` tag, or by their name in lower case. `yaml:"-"` hides a field and
// `yaml:",inline"` lifts the fields of a struct. Anchors, aliases and merge keys (`<<`) work as in YAML 1.1.
package strictyaml

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"unicode"
)

// maxBytes bounds the text of a configuration file and of one environment variable.
const maxBytes = 4 << 20

// Defaulter is implemented by the pointer to a type whose fresh values (an element of a list, a value of a map, what a
// pointer points to) start from something else than zero. SetDefaults runs before the keys are decoded.
type Defaulter interface {
	SetDefaults()
}

// Exampler is implemented by the pointer to a type that is easily written with a bracket too few or too many. Whatever
// does not fit below such a value is one problem, "expected " and the example, and the value stays empty.
type Exampler interface {
	Example() string
}

// Problem is one thing that is wrong with the configuration.
type Problem struct {
	// File is the name given to [Decode], or "environment NAME" for a value that a variable brought.
	File string
	// Line counts from 1; 0 means that no line is known.
	Line int
	// Key is the path of the key, such as "vision.cameras[0].fps"; empty for the text as a whole.
	Key string
	// Message says in words what is expected and what was found.
	Message string
}

// String returns the problem on one line: "outstation.yaml:12: vision.cameras[0].fps: expected a number, got "fast"".
func (p Problem) String() string {
	var b strings.Builder
	b.WriteString(OneLine(p.File))
	if p.Line > 0 {
		fmt.Fprintf(&b, ":%d", p.Line)
	}
	if p.Key != "" {
		b.WriteString(": " + OneLine(p.Key))
	}
	b.WriteString(": " + OneLine(p.Message))
	return b.String()
}

// Error is every problem of one configuration, in the order of the file's lines, the environment last.
type Error struct {
	Problems []Problem
}

// Error returns one line a problem.
func (e *Error) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// Source remembers where each key came from. It is immutable and safe for concurrent use.
type Source struct {
	file   string
	places map[string]place
}

// place is where a key was written.
type place struct {
	file string
	line int
}

// Problem returns a problem of key, a path such as "vision.cameras[1].model", placed where the key, or else its nearest
// parent that was given, is written. A key that only has its default is placed in the file, without a line.
func (s *Source) Problem(key, message string) Problem {
	for path := key; path != ""; path = parent(path) {
		if at, ok := s.places[path]; ok {
			return Problem{File: at.file, Line: at.line, Key: key, Message: message}
		}
	}
	return Problem{File: s.file, Key: key, Message: message}
}

// Written reports whether key, or a key below it, is in the file or the environment.
func (s *Source) Written(key string) bool {
	_, ok := s.places[key]
	return ok
}

// Decode decodes the YAML text data, which was read from file, into the struct that into points to, and then lays over
// it the variables of environ ("NAME=value", as from [os.Environ]) that begin with envPrefix. A later variable of the
// same name wins; those that begin with envPrefix+"TEST_" are not looked at.
//
// A variable is named by the prefix and the path of the key in upper case, joined by "_": OUTSTATION_WEB_LISTEN,
// OUTSTATION_VISION_CAMERAS_0_SOURCE. An index is that of an element or the next one. Text fields take the value
// literally, all others as YAML flow text; one plain value without a comma is a list of texts with one element. An
// empty value of a field that is not text keeps what is there.
//
// Whatever is wrong comes back as one [*Error], with everything that is right decoded; the [*Source] is valid then too.
// Any other error is a mistake in the call: into must be a non-nil pointer to a struct.
func Decode(file string, data []byte, environ []string, envPrefix string, into any) (*Source, error) {
	v := reflect.ValueOf(into)
	if v.Kind() != reflect.Pointer || v.IsNil() || v.Elem().Kind() != reflect.Struct {
		return nil, fmt.Errorf("strictyaml: expected a non-nil pointer to a struct, got %T", into)
	}
	src := &Source{file: file, places: make(map[string]place)}
	d := &decoder{file: file, lines: true, places: src.places}
	if root := d.parse(data, at{}); root != nil {
		d.value(root, v.Elem(), at{line: root.Line})
	}
	slices.SortStableFunc(d.problems, func(a, b Problem) int { return a.Line - b.Line })
	problems := append(d.problems, overlay(environ, envPrefix, v.Elem(), src.places)...)
	if len(problems) > 0 {
		return src, &Error{Problems: problems}
	}
	return src, nil
}

// parent returns the path without its last step, "" for a path of one step.
func parent(path string) string {
	if i := strings.LastIndexAny(path, ".["); i >= 0 {
		return path[:i]
	}
	return ""
}

// OneLine makes one line of a text, and replaces what would garble a line of output. Lines are parted by "; ", but for
// what follows a colon.
func OneLine(s string) string {
	var b strings.Builder
	for line := range strings.Lines(s) {
		line = strings.TrimSpace(line)
		switch {
		case line == "":
			continue
		case strings.HasSuffix(b.String(), ":"):
			b.WriteString(" ")
		case b.Len() > 0:
			b.WriteString("; ")
		}
		b.WriteString(line)
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, b.String())
}
