package uplink

import "strings"

// Filter is an MQTT topic filter in its levels. It is immutable.
type Filter []string

// ParseFilter checks a topic filter (MQTT 3.1.1, section 4.7).
func ParseFilter(f string) (Filter, error) {
	if err := checkFilter(f); err != nil {
		return nil, err
	}
	return strings.Split(f, "/"), nil
}

// Matches reports whether a topic, in its levels, matches.
func (f Filter) Matches(levels []string) bool { return matches(f, levels) }
