package forward

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"
)

// maxXMLDepth bounds how deep elements may stand in each other.
const maxXMLDepth = 64

// element is an XML element that is being read.
type element struct {
	name   string
	fields map[string]any
	text   strings.Builder
}

// readXML reads an XML document as a mapping: an element is the field of its
// name, one with only text is a text, attributes are fields that begin with @,
// text beside other elements is the field "#text", and what comes twice is a
// list. Namespaces are left out.
func readXML(text []byte) document {
	d := xml.NewDecoder(bytes.NewReader(text))
	open := []*element{{fields: map[string]any{}}}
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) && len(open) == 1 && len(open[0].fields) > 0 {
			return object(open[0].fields)
		}
		if err == nil && len(open) > maxXMLDepth {
			err = fmt.Errorf("more than %d elements in each other", maxXMLDepth)
		}
		if err != nil {
			return document{err: fmt.Errorf("not XML: %w", err)}
		}
		top := open[len(open)-1]
		switch t := token.(type) {
		case xml.StartElement:
			open = append(open, begin(t))
		case xml.CharData:
			top.text.Write(t)
		case xml.EndElement:
			open = open[:len(open)-1]
			add(open[len(open)-1].fields, top.name, top.value())
		}
	}
}

func begin(t xml.StartElement) *element {
	e := &element{name: t.Name.Local, fields: map[string]any{}}
	for _, a := range t.Attr {
		if a.Name.Space != "xmlns" && a.Name.Local != "xmlns" {
			add(e.fields, "@"+a.Name.Local, a.Value)
		}
	}
	return e
}

func (e *element) value() any {
	text := strings.TrimSpace(e.text.String())
	if len(e.fields) == 0 {
		return text
	}
	if text != "" {
		e.fields["#text"] = text
	}
	return e.fields
}
