package access

import (
	"crypto/sha512"
	"encoding/base64"
	"strings"
	"testing"
)

func sha512Of(password, salt string) string {
	sum := sha512.Sum512([]byte(password + salt))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// slowMatch is the definition of section 4.7 of both specifications.
func slowMatch(filter, topic []string, first bool) bool {
	if first && len(topic) > 0 && strings.HasPrefix(topic[0], "$") && len(filter) > 0 && (filter[0] == "+" || filter[0] == "#") {
		return false
	}
	switch {
	case len(filter) == 0:
		return len(topic) == 0
	case filter[0] == "#":
		return true
	case len(topic) == 0:
		return false
	}
	return (filter[0] == "+" || filter[0] == topic[0]) && slowMatch(filter[1:], topic[1:], false)
}

func FuzzFilters(f *testing.F) {
	for _, s := range [][3]string{{"a/#", "+/b", "a/b"}, {"#", "$SYS/#", "$SYS/a"}, {"+/+", "/#", "/"}, {"a/+/#", "a/b", "a/b"}} {
		f.Add(s[0], s[1], s[2])
	}
	f.Fuzz(func(t *testing.T, a, b, topic string) {
		if checkFilter(a) != nil || checkFilter(b) != nil || topic == "" || strings.ContainsAny(topic, "+#") {
			return
		}
		inA, inB := Matches(a, topic), Matches(b, topic)
		if want := slowMatch(strings.Split(a, "/"), strings.Split(topic, "/"), true); inA != want {
			t.Errorf("%q matches %q: got %v", a, topic, inA)
		}
		if Contains(a, b) && inB && !inA {
			t.Errorf("%q contains %q, but not %q", a, b, topic)
		}
		if inA && inB && !Overlaps(a, b) {
			t.Errorf("%q and %q share %q, but do not overlap", a, b, topic)
		}
		if Overlaps(a, b) != Overlaps(b, a) || !Contains(a, a) || !Overlaps(a, a) {
			t.Errorf("%q and %q", a, b)
		}
	})
}

func FuzzACL(f *testing.F) {
	f.Add(rules, "press", "gate-1", "dev/press/a")
	f.Add("pattern deny %u/%c/#\ntopic #", "a", "b", "a/b/c")
	f.Fuzz(func(t *testing.T, text, user, client, topic string) {
		acl, err := ParseACL("acl", []byte(text))
		if err != nil || topic == "" || strings.ContainsAny(topic, "+#") {
			return
		}
		r := acl.Of(user, client)
		if r.WriteBelow("vision/", topic) && !r.Write(topic) {
			t.Error("more is granted below a reserved prefix than without")
		}
		if (r.Read(topic) || r.Write(topic)) && r.refuses(topic) {
			t.Error("a deny does not win")
		}
		if r.Read(topic) && checkFilter(topic) == nil && !r.Subscribe(topic) {
			t.Error("what may be read cannot be subscribed to")
		}
		filled, ok := fill("x/%u/%c/y", user, client)
		if ok && strings.Count(filled, "/") != 3 {
			t.Errorf("a name is more than one level: %q", filled)
		}
	})
}

func FuzzUsers(f *testing.F) {
	f.Add("a:$6$AQIDBAUGBwgJCgsM$" + sha512Of("x", "y") + "\n# b\n")
	f.Add("a:$argon2id$v=19$m=19456,t=2,p=1$AQIDBAUGBwgJCgsMDQ4PEA$AQIDBAUGBwgJCgsMDQ4PEA\nb:$7$101$AQ$AQ")
	f.Fuzz(func(t *testing.T, text string) {
		users, err := ParseUsers("u", []byte(text))
		if err != nil {
			return
		}
		var again strings.Builder
		for _, name := range users.Names() {
			h, _ := users.Lookup(name)
			if h.memory > MaxMemory || h.passes > MaxPasses || h.iterations > maxIterations {
				t.Errorf("%q costs too much: %+v", name, h)
			}
			again.WriteString(name + ":" + h.Text() + "\n")
		}
		second, err := ParseUsers("u", []byte(again.String()))
		if err != nil || len(second.byName) != len(users.byName) {
			t.Errorf("what is written cannot be read: %v", err)
		}
	})
}
