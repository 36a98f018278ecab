package forward

import (
	"bytes"
	"encoding/json"
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
		return document{err: fmt.Errorf("not JSON: %w", err)}
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
