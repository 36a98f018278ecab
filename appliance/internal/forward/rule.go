package forward

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"text/template"
	"text/template/parse"

	"outstation/uplink"
	"outstation/uplink/wire"
)

// maxTemplate bounds a template and what it writes, in bytes: with neither
// loops nor calls of other templates, that bounds its time too.
const (
	maxTemplate = 4 << 10
	maxOutput   = 1 << 10
)

// Rule says which messages are events and how they are read.
type Rule struct {
	Source string // level of the event's topic
	Match  string // MQTT filter of the topics on the local broker
	// Subject names the device: levels of the topic such as "{2}", or a field of
	// the payload such as "device.id". Empty means the level that the first + of
	// Match stands for, or else the last level.
	Subject   string
	EventType string // template; a level of the event's topic
	Timestamp string // template; empty means that messages carry no time
}

// FieldError says what is wrong with a field of a rule.
type FieldError struct {
	Field string // as the configuration calls it
	Err   error
}

// Error names the field.
func (e *FieldError) Error() string { return e.Field + ": " + e.Err.Error() }

// Unwrap returns what is wrong.
func (e *FieldError) Unwrap() error { return e.Err }

// Check returns everything that is wrong with a rule.
func Check(r Rule) []*FieldError {
	_, wrong := compile(r)
	return wrong
}

// compiled is a rule that is ready to be used.
type compiled struct {
	Rule
	filter    uplink.Filter
	eventType *template.Template
	timestamp *template.Template // or nil
	fallback  int                // 1-based level that names the subject; 0 means the last
}

func compile(r Rule) (compiled, []*FieldError) {
	c := compiled{Rule: r}
	var wrong []*FieldError
	bad := func(field string, err error) {
		if err != nil {
			wrong = append(wrong, &FieldError{field, err})
		}
	}
	bad("source", CheckSource(r.Source))
	var err error
	if c.filter, err = uplink.ParseFilter(r.Match); err != nil {
		bad("match", err)
	} else {
		bad("match", checkReachable(c.filter))
		c.fallback = slices.Index(c.filter, "+") + 1
		bad("subject", checkSubject(r.Subject, c.filter))
	}
	c.eventType, err = parseTemplate(r.EventType)
	bad("event_type", err)
	if err == nil {
		bad("event_type", checkConstant(c.eventType, r.EventType))
	}
	if r.Timestamp != "" {
		c.timestamp, err = parseTemplate(r.Timestamp)
		bad("timestamp", err)
	}
	return c, wrong
}

// checkReachable refuses a filter of topics that make no events, whoever
// publishes there.
func checkReachable(f uplink.Filter) error {
	first := f[0]
	switch {
	case len(f) > 1 && slices.Contains(wire.ReservedPrefixes, first+"/"):
		return fmt.Errorf("no topic below %s/ becomes an event: what is there is the appliance's own", first)
	case strings.HasPrefix(strings.ToUpper(first), "$SYS"), strings.EqualFold(first, "$share"):
		return fmt.Errorf("no device can publish below %s", first)
	}
	return nil
}

// CheckSource returns nil if devices may be called by this source.
func CheckSource(s string) error {
	if s == wire.SourceAppliance {
		return fmt.Errorf("%q is the appliance's own", s)
	}
	return wire.CheckLevel(s)
}

// checkConstant checks an event_type that does not depend on the message.
func checkConstant(t *template.Template, text string) error {
	for _, n := range t.Root.Nodes {
		if n.Type() != parse.NodeText {
			return nil
		}
	}
	return wire.CheckLevel(text)
}

func parseTemplate(text string) (*template.Template, error) {
	if text == "" {
		return nil, errors.New("expected a name or a template, got nothing")
	}
	if len(text) > maxTemplate {
		return nil, fmt.Errorf("expected at most %d bytes, got %d", maxTemplate, len(text))
	}
	t, err := template.New("template").Funcs(functions).Parse(text)
	if err != nil {
		return nil, err
	}
	if len(t.Templates()) != 1 || t.Tree == nil {
		return nil, errors.New("expected one template, without define and block")
	}
	return t, bounded(t.Root)
}

// allowed are the functions of the language that cannot make much of little.
var allowed = []string{"and", "or", "not", "len", "index", "slice"}

// bounded refuses what could run for long or grow: loops, other templates,
// and functions that build texts.
func bounded(node parse.Node) error {
	switch n := node.(type) {
	case *parse.ListNode:
		if n == nil {
			return nil
		}
		return boundedAll(n.Nodes)
	case *parse.ActionNode:
		return bounded(n.Pipe)
	case *parse.IfNode:
		return boundedBranch(&n.BranchNode)
	case *parse.WithNode:
		return boundedBranch(&n.BranchNode)
	case *parse.PipeNode:
		return boundedAll(n.Cmds)
	case *parse.CommandNode:
		return boundedAll(n.Args)
	case *parse.ChainNode:
		return bounded(n.Node)
	case *parse.IdentifierNode:
		if _, ours := functions[n.Ident]; !ours && !slices.Contains(allowed, n.Ident) {
			return fmt.Errorf("the function %s is not available", n.Ident)
		}
	case *parse.RangeNode:
		return errors.New("range is not available")
	case *parse.TemplateNode:
		return errors.New("template is not available")
	}
	return nil
}

func boundedBranch(b *parse.BranchNode) error {
	return errors.Join(bounded(b.Pipe), bounded(b.List), bounded(b.ElseList))
}

func boundedAll[N parse.Node](nodes []N) error {
	for _, n := range nodes {
		if err := bounded(n); err != nil {
			return err
		}
	}
	return nil
}

// Marks that a template writes for what is not there.
var missing = []string{"<no value>", "<nil>"}

// errMissing says that a template names what the message does not have.
var errMissing = errors.New("the message lacks a field that the rule names")

// run executes a template. Its output is bounded.
func run(t *template.Template, data any) (string, error) {
	var out output
	if err := t.Execute(&out, data); err != nil {
		if _, at, ok := strings.Cut(err.Error(), "executing \"template\" at "); ok { // what is before is the library's
			err = errors.New("at " + at)
		}
		return "", err
	}
	text := strings.TrimSpace(out.String())
	for _, m := range missing {
		if strings.Contains(text, m) {
			return "", errMissing
		}
	}
	return text, nil
}

// output takes maxOutput bytes.
type output struct{ strings.Builder }

// Write fails beyond the bound.
func (o *output) Write(b []byte) (int, error) {
	if o.Len()+len(b) > maxOutput {
		return 0, fmt.Errorf("the output is longer than %d bytes", maxOutput)
	}
	return o.Builder.Write(b)
}

// placeholder is a level of the topic, in a subject.
var placeholder = regexp.MustCompile(`\{(\d{1,4})\}`)

func checkSubject(s string, f uplink.Filter) error {
	fixed := len(f)
	if f[fixed-1] == "#" {
		fixed--
	}
	for _, m := range placeholder.FindAllStringSubmatch(s, -1) {
		if n, err := strconv.Atoi(m[1]); err != nil || n < 1 || n > fixed {
			return fmt.Errorf("got %s, but the match has %d levels before any #", m[0], fixed)
		}
	}
	if rest := placeholder.ReplaceAllString(s, ""); strings.ContainsAny(rest, "{}") {
		return fmt.Errorf("got %q, expected levels such as {2}, or a field of the payload such as device.id", s)
	}
	return nil
}

// subjectOf names the device of a message.
func (c compiled) subjectOf(levels []string, payload any) (string, error) {
	switch {
	case c.Subject == "":
		return c.fallbackSubject(levels), nil
	case strings.Contains(c.Subject, "{"):
		return placeholder.ReplaceAllStringFunc(c.Subject, func(p string) string {
			n, err := strconv.Atoi(p[1 : len(p)-1])
			if err != nil || n < 1 || n > len(levels) { // checked when the rule was compiled
				return ""
			}
			return levels[n-1]
		}), nil
	}
	v, ok := lookup(payload, strings.Split(c.Subject, "."))
	if !ok {
		return "", fmt.Errorf("the message has no field %s", c.Subject)
	}
	s, ok := scalar(v)
	if !ok || s == "" {
		return "", fmt.Errorf("the field %s is not a name", c.Subject)
	}
	return s, nil
}

// fallbackSubject is the subject that needs nothing of the payload.
func (c compiled) fallbackSubject(levels []string) string {
	n := c.fallback
	if n < 1 || n > len(levels) {
		n = len(levels)
	}
	return levels[n-1]
}
