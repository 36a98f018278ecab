package uplink

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

func TestDownRoutesFirstMatchWins(t *testing.T) {
	r, err := NewDownRouter(testOrigin, []DownRoute{
		{Match: "fleet/{site}/+/set", To: "set/{3}"},
		{Match: "fleet/#", To: "fleet-{device_id}/{rest}"},
		{Match: "fleet/+/x", To: "never"},
	})
	if err != nil {
		t.Fatal(err)
	}
	for topic, want := range map[string]string{
		"cmd/reg/site-1/dev-1/restart":   "cmd/reg/site-1/dev-1/restart",
		"cmd/reg/site-1/dev-1/a/b":       "cmd/reg/site-1/dev-1/a/b",
		"cmd/reg/site-1/dev-2/restart":   "",
		"fleet/site-1/press/set":         "set/press",
		"fleet/site-2/press/set":         "fleet-dev-1/site-2/press/set",
		"fleet/a/x":                      "fleet-dev-1/a/x",
		"elsewhere/cmd/reg/site-1/dev-1": "",
	} {
		_, to, ok := r.Route(topic)
		if to != want || ok != (want != "") || r.brings(topic) != ok {
			t.Errorf("%s: got %q (%v, brings %v), expected %q", topic, to, ok, r.brings(topic), want)
		}
	}
	if got, want := r.Filters(), []string{"cmd/reg/site-1/dev-1/#", "fleet/#"}; !slices.Equal(got, want) {
		t.Errorf("subscribes to %v, expected %v", got, want)
	}
}

func TestBadDownRoutesAreRefused(t *testing.T) {
	for name, c := range map[string]struct {
		route DownRoute
		want  string
	}{
		"no match":       {DownRoute{To: "{topic}"}, "match"},
		"no to":          {DownRoute{Match: "a/#"}, "to"},
		"bad filter":     {DownRoute{Match: "a/#/b", To: "{topic}"}, "#"},
		"level in match": {DownRoute{Match: "a/{1}", To: "{topic}"}, "placeholders"},
		"unknown":        {DownRoute{Match: "a/#", To: "{nope}"}, "{nope}"},
		"level beyond":   {DownRoute{Match: "a/#", To: "{2}"}, "{2}"},
		"wildcard to":    {DownRoute{Match: "a/#", To: "a/+"}, "without + or #"},
		"dollar":         {DownRoute{Match: "a/#", To: "$SYS/{rest}"}, "begin with $"},
		"dollar topic":   {DownRoute{Match: "$SYS/#", To: "{topic}"}, "begin with $"},
		"dollar level":   {DownRoute{Match: "$SYS/#", To: "{1}/x"}, "begin with $"},
		"shared":         {DownRoute{Match: "$share/g/a", To: "x"}, "shared"},
		"built-in again": {DownRoute{Match: "cmd/{region}/{site}/{device_id}/#", To: "x"}, "two down routes"},
	} {
		_, err := NewDownRouter(testOrigin, []DownRoute{c.route})
		if !errors.Is(err, ErrRoute) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, expected %q", name, err, c.want)
		}
	}
	if _, err := NewDownRouter(testOrigin, []DownRoute{{Match: "$SYS/broker/uptime", To: "centre/uptime"}}); err != nil {
		t.Error(err)
	}
}

func TestFiltersThatCoverEachOther(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"#", "a/b", true}, {"a/#", "a", true}, {"a/#", "a/+/b", true}, {"a/+", "a/b", true}, {"a/+", "a/+", true},
		{"a/+", "a/#", false}, {"a/b", "a/+", false}, {"a/b", "a/b/c", false}, {"a/b/c", "a/b", false},
		{"#", "$SYS/#", false}, {"+/a", "$SYS/a", false}, {"$SYS/#", "$SYS/a", true},
	} {
		if got := covers(strings.Split(c.a, "/"), strings.Split(c.b, "/")); got != c.want {
			t.Errorf("%s covers %s: got %v", c.a, c.b, got)
		}
	}
}
