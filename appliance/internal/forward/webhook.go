package forward

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/url"
	"time"
	"unicode/utf8"
)

// typeWebhook is the event_type of a webhook that no rule names.
const typeWebhook = "webhook"

// maxParts bounds the parts of a multipart body.
const maxParts = 64

// Webhook is what a machine posted.
type Webhook struct {
	Source      string // must satisfy CheckSource
	From        string // address of the sender, the subject where no rule names one
	ContentType string
	Query       url.Values // without credentials; part of the payload of forms and empty bodies
	Body        []byte
	Received    time.Time
}

// Webhook makes an event of what was posted. Rules match it by the topic
// hooks/{source}/{address}; without one it is an event of type webhook.
func (e *Engine) Webhook(h Webhook) (Event, error) {
	levels := []string{"hooks", h.Source, h.From}
	rules := e.matching(levels)
	if len(rules) == 0 {
		c, wrong := compile(Rule{Source: h.Source, Match: "hooks/" + h.Source + "/+", EventType: typeWebhook})
		if len(wrong) > 0 {
			return Event{}, wrong[0]
		}
		rules = []compiled{c}
	}
	topic := "hooks/" + h.Source + "/" + h.From
	return e.event(rules, input{topic, levels, h.Body, h.Received, readBody(h.ContentType, h.Query, h.Body)}), nil
}

// GuessContentType is what a sender would say of a body that is a form, and
// nothing for others, which are read by what they are.
func GuessContentType(body []byte) string {
	text := bytes.TrimSpace(body)
	if len(text) == 0 || bytes.IndexByte([]byte("{[<\""), text[0]) >= 0 || bytes.IndexByte(text, '=') < 0 || readForm(text, nil).err != nil {
		return ""
	}
	return "application/x-www-form-urlencoded"
}

// readBody reads JSON, XML and forms, whatever else the sender calls them.
func readBody(contentType string, query url.Values, body []byte) document {
	kind, params, err := mime.ParseMediaType(contentType)
	if err != nil {
		kind = "" // panels write all sorts of things
	}
	text := bytes.TrimSpace(body)
	switch {
	case len(text) == 0: // a button's webhook says all in its address
		return object(fields(query))
	case kind == "multipart/form-data" || kind == "multipart/mixed":
		return readParts(body, params["boundary"])
	case text[0] == '<':
		return readXML(text)
	}
	doc := readJSON(text)
	if doc.err != nil && kind == "application/x-www-form-urlencoded" {
		return readForm(text, query)
	}
	return doc
}

func readForm(text []byte, query url.Values) document {
	form, err := url.ParseQuery(string(text))
	if err != nil {
		return document{err: fmt.Errorf("not a form: %w", err)}
	}
	for k, v := range query {
		form[k] = append(form[k], v...)
	}
	return object(fields(form))
}

// fields has a text for what was given once, and a list for the rest.
func fields(form url.Values) map[string]any {
	out := map[string]any{}
	for k, values := range form {
		for _, v := range values {
			add(out, k, v)
		}
	}
	return out
}

// add puts a value into a mapping; the second of a name makes a list.
func add(m map[string]any, name string, v any) {
	switch former, there := m[name]; list := former.(type) {
	case []any:
		m[name] = append(list, v)
	default:
		if there {
			v = []any{former, v}
		}
		m[name] = v
	}
}

// object is the document of a mapping that came in another notation.
func object(m map[string]any) document {
	b, err := json.Marshal(m)
	if err != nil {
		return document{err: err}
	}
	return readJSON(b)
}

// part is a part of a multipart body that is neither JSON, XML nor text.
type part struct {
	FileName    string `json:"file_name,omitempty"`
	ContentType string `json:"content_type"`
	Data        []byte `json:"base64"`
}

// readParts reads the parts of a form, by name.
func readParts(body []byte, boundary string) document {
	out := map[string]any{}
	r := multipart.NewReader(bytes.NewReader(body), boundary)
	for n := 0; ; n++ {
		p, err := r.NextRawPart()
		if errors.Is(err, io.EOF) && n > 0 {
			return object(out)
		}
		if err == nil && n >= maxParts {
			err = fmt.Errorf("more than %d parts", maxParts)
		}
		var data []byte
		if err == nil {
			data, err = io.ReadAll(p)
		}
		if err != nil {
			return document{err: fmt.Errorf("not a multipart body: %w", err)}
		}
		name := p.FormName()
		if name == "" {
			name = fmt.Sprintf("part-%d", n+1)
		}
		add(out, name, partValue(p, data))
	}
}

func partValue(p *multipart.Part, data []byte) any {
	if text := bytes.TrimSpace(data); len(text) > 0 && bytes.IndexByte([]byte("{[<"), text[0]) >= 0 {
		if doc := readBody("", nil, text); doc.err == nil {
			return doc.value
		}
	}
	if utf8.Valid(data) && !bytes.ContainsRune(data, 0) {
		return string(data)
	}
	return part{p.FileName(), p.Header.Get("Content-Type"), data}
}
