package access

import (
	"slices"
	"strings"
	"sync"
)

const sharePrefix = "$share/"

// maxVerdicts bounds what one client's rights remember.
const maxVerdicts = 256

// Rights are what an ACL allows one client; nil allows everything. They may be
// used from any goroutine.
type Rights struct {
	reads  []string
	writes []string
	grants []string // the writes as the file has them, without the names in patterns filled in
	denied []string
	all    bool // a deny that names the client could not be filled in

	mu       sync.Mutex
	verdicts map[string]bool // of reading, by topic
}

// Of returns the rights of a client. user is empty for one without a name. A
// nil ACL allows everything.
func (a *ACL) Of(user, client string) *Rights {
	if a == nil {
		return nil
	}
	r := &Rights{verdicts: map[string]bool{}}
	rules := a.users[user]
	if user == "" {
		rules = a.anonymous
	}
	for _, rule := range slices.Concat(rules, a.clients[client]) {
		r.add(rule.filter, rule)
	}
	for _, p := range a.patterns {
		filter, ok := fill(p.filter, user, client)
		switch {
		case ok:
			r.add(filter, p)
		case p.access == deny && client != "" && (user != "" || !strings.Contains(p.filter, "%u")):
			r.all = true // a name such as a/b must not be a way around a deny
		}
	}
	return r
}

func (r *Rights) add(filter string, from rule) {
	if from.access&read != 0 {
		r.reads = append(r.reads, filter)
	}
	if from.access&write != 0 {
		r.writes, r.grants = append(r.writes, filter), append(r.grants, from.filter)
	}
	if from.access&deny != 0 {
		r.denied = append(r.denied, filter)
	}
}

// Write reports whether the client may publish on a topic.
func (r *Rights) Write(topic string) bool {
	return r == nil || (!r.refuses(topic) && slices.ContainsFunc(r.writes, func(f string) bool { return Matches(f, topic) }))
}

// WriteBelow is Write for a topic below a prefix that is not for everybody: a
// rule grants it only if it names the prefix, so not #, and without a rule
// nothing is granted.
func (r *Rights) WriteBelow(prefix, topic string) bool {
	if r == nil || r.refuses(topic) {
		return false
	}
	for i, f := range r.writes {
		if strings.HasPrefix(r.grants[i], prefix) && Matches(f, topic) {
			return true
		}
	}
	return false
}

// Read reports whether the client may get a message on a topic.
func (r *Rights) Read(topic string) bool {
	if r == nil {
		return true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	may, known := r.verdicts[topic]
	if !known {
		may = !r.refuses(topic) && slices.ContainsFunc(r.reads, func(f string) bool { return Matches(f, topic) })
		if len(r.verdicts) >= maxVerdicts {
			clear(r.verdicts)
		}
		r.verdicts[topic] = may
	}
	return may
}

// Subscribe reports whether a subscription can bring the client anything that
// it may read; Read decides about each message.
func (r *Rights) Subscribe(filter string) bool {
	if r == nil {
		return true
	}
	filter = unshared(filter)
	if r.all || slices.ContainsFunc(r.denied, func(f string) bool { return Contains(f, filter) }) {
		return false
	}
	return slices.ContainsFunc(r.reads, func(f string) bool { return Overlaps(f, filter) })
}

func (r *Rights) refuses(topic string) bool {
	return r.all || slices.ContainsFunc(r.denied, func(f string) bool { return Matches(f, topic) })
}

// unshared is the filter of a shared subscription.
func unshared(filter string) string {
	rest, ok := strings.CutPrefix(filter, sharePrefix)
	if !ok {
		return filter
	}
	_, filter, _ = strings.Cut(rest, "/")
	return filter
}
