package strictyaml

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"

	"go.yaml.in/yaml/v3"
)

// parse returns the root of the only document in data, the value at key a, or nil when there is none or its syntax is
// broken.
func (d *decoder) parse(data []byte, a at) *yaml.Node {
	if len(data) > maxBytes {
		d.report(a, "expected at most %d bytes, got %d", maxBytes, len(data))
		return nil
	}
	lines := &lineReader{rest: data}
	dec := yaml.NewDecoder(lines)
	root := d.document(dec, lines, a)
	if root == nil {
		return nil
	}
	if second := d.document(dec, lines, a); second != nil {
		d.report(at{a.path, second.Line}, "expected one document, a second begins here")
	}
	return root
}

// document returns the root of the next document, nil at the end of the text or when the syntax is broken.
func (d *decoder) document(dec *yaml.Decoder, lines *lineReader, a at) *yaml.Node {
	var doc yaml.Node
	err := dec.Decode(&doc)
	switch {
	case errors.Is(err, io.EOF):
		return nil
	case err != nil:
		d.report(at{a.path, lines.read}, "%s", syntaxMessage(err))
		return nil
	case doc.Kind != yaml.DocumentNode || len(doc.Content) == 0:
		return nil
	}
	return doc.Content[0]
}

// libraryPrefix is what the library puts before its messages. The line is dropped with it: it is missing on the first
// line and one too small for some errors.
var libraryPrefix = regexp.MustCompile(`^yaml: (unmarshal errors:\s*)?(line \d+: )?`)

func syntaxMessage(err error) string {
	return fmt.Sprintf("not valid YAML: %s", libraryPrefix.ReplaceAllString(err.Error(), ""))
}

// lineReader hands out one line a Read, so that read tells which line the parser, which reads only what it needs, has
// reached when it fails.
type lineReader struct {
	rest []byte
	read int
}

func (r *lineReader) Read(p []byte) (int, error) {
	if len(r.rest) == 0 {
		return 0, io.EOF
	}
	end := bytes.IndexByte(r.rest, '\n') + 1
	if end == 0 {
		end = len(r.rest)
	}
	n := copy(p, r.rest[:end])
	if n == end {
		r.read++
	}
	r.rest = r.rest[n:]
	return n, nil
}
