package access

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// ACL says who may read and write which topics. The format is that of
// Mosquitto's acl_file, with sections for client ids:
//
//	topic read status/#            # before any section: devices without a name
//	user press-7                   # begins the section of a user
//	topic write press/7/#          # read, write, readwrite (the default) or deny
//	client gate-1                  # begins the section of a client id
//	topic deny press/#
//	pattern readwrite dev/%u/#     # for everybody: %u is the user, %c the client id
//
// A comment has a line of its own. A deny wins over every grant.
type ACL struct {
	anonymous []rule
	users     map[string][]rule
	clients   map[string][]rule
	patterns  []rule
}

// rule grants or denies one filter.
type rule struct {
	filter string // a pattern's with its placeholders
	access rights
}

type rights byte

const (
	read rights = 1 << iota
	write
	deny
)

var rightsByName = map[string]rights{"read": read, "write": write, "readwrite": read | write, "deny": deny}

// ReadACL reads a file of rules.
func ReadACL(file string) (*ACL, error) {
	text, err := readFile(file)
	if err != nil {
		return nil, err
	}
	return ParseACL(file, text)
}

// ParseACL is ReadACL for a text that was read; file is for errors.
func ParseACL(file string, text []byte) (*ACL, error) {
	a := &ACL{users: map[string][]rule{}, clients: map[string][]rule{}}
	section := func(r rule) { a.anonymous = append(a.anonymous, r) }
	err := eachLine(file, text, func(line string) error {
		word, rest, _ := strings.Cut(line, " ")
		rest = strings.TrimSpace(rest)
		switch word {
		case "user":
			section = func(r rule) { a.users[rest] = append(a.users[rest], r) }
			return CheckName(rest)
		case "client":
			section = func(r rule) { a.clients[rest] = append(a.clients[rest], r) }
			return checkClient(rest)
		case "topic":
			r, err := parseRule(rest)
			if err == nil && hasPlaceholder(r.filter) {
				err = fmt.Errorf("%q: %%u and %%c are for pattern, not for topic", r.filter)
			}
			section(r)
			return err
		case "pattern":
			r, err := parseRule(rest)
			if err == nil {
				err = checkPlaceholders(r.filter)
			}
			a.patterns = append(a.patterns, r)
			return err
		}
		return fmt.Errorf("got %q, expected user, client, topic or pattern", word)
	})
	if err != nil {
		return nil, err
	}
	return a, nil
}

func checkClient(id string) error {
	if id == "" || !utf8.ValidString(id) {
		return fmt.Errorf("client: got %q, expected a client id", id)
	}
	return nil
}

// parseRule reads what follows topic or pattern: a filter alone, or after a
// right. A filter may have spaces in it.
func parseRule(s string) (rule, error) {
	r := rule{filter: s, access: read | write}
	if name, filter, ok := strings.Cut(s, " "); ok {
		if r.access, ok = rightsByName[name]; !ok {
			return r, fmt.Errorf("got %q, expected read, write, readwrite or deny before the filter", name)
		}
		r.filter = strings.TrimSpace(filter)
	}
	return r, checkFilter(r.filter)
}

// errFilter says that a filter is none of MQTT's (section 4.7 of both
// specifications).
var errFilter = errors.New("not a topic filter")

func checkFilter(filter string) error {
	if filter == "" || len(filter) > 65535 || !utf8.ValidString(filter) || strings.ContainsRune(filter, 0) {
		return fmt.Errorf("%w: got %q", errFilter, filter)
	}
	if strings.HasPrefix(filter, sharePrefix) {
		return fmt.Errorf("%w: %q: a rule names the topics, not the share", errFilter, filter)
	}
	for rest, more := filter, true; more; {
		var level string
		level, rest, more = strings.Cut(rest, "/")
		switch {
		case level == "+", level == "#" && !more:
		case strings.ContainsAny(level, "+#"):
			return fmt.Errorf("%w: %q: + and # stand for whole levels, # for the last", errFilter, filter)
		}
	}
	return nil
}

// checkPlaceholders returns nil if a pattern has no others than there are.
func checkPlaceholders(filter string) error {
	for rest := filter; ; {
		_, after, found := strings.Cut(rest, "%")
		if !found {
			return nil
		}
		if !strings.HasPrefix(after, "u") && !strings.HasPrefix(after, "c") {
			return fmt.Errorf("%q: expected %%u (the user) or %%c (the client id) after a %%", filter)
		}
		rest = after
	}
}

func hasPlaceholder(filter string) bool {
	return strings.Contains(filter, "%u") || strings.Contains(filter, "%c")
}

// fill puts a user and a client id in the place of their placeholders. It
// reports false where a name is missing or is more than a part of one level: it would
// then stand for topics of others.
func fill(filter, user, client string) (string, bool) {
	var ok bool
	if filter, ok = fillOne(filter, "%u", user); !ok {
		return "", false
	}
	return fillOne(filter, "%c", client)
}

func fillOne(filter, placeholder, name string) (string, bool) {
	if !strings.Contains(filter, placeholder) {
		return filter, true
	}
	if name == "" || strings.ContainsAny(name, "/+#%") {
		return "", false
	}
	return strings.ReplaceAll(filter, placeholder, name), true
}
