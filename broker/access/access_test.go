package access

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestAHashVerifiesItsPasswordOnly(t *testing.T) {
	made, err := NewHash([]byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"argon2id": made.Text(),
		// of mosquitto_passwd 2.0, and the older format worked out by hand
		"pbkdf2": "$7$101$nSmdYaSLhwUVINHR$HXCivSfvjdcdJU6dPnkPP3IyU4+o2u2soZRi88iTG+HDwFk7WEkCsK62edc5RonUGjVoGXst8KAxYGWked4iJg==",
		"sha512": "$6$AQIDBAUGBwgJCgsM$" + sha512Of("secret", "\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c"),
	} {
		h, err := ParseHash(text)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if !h.Verify([]byte("secret")) || h.Verify([]byte("Secret")) || h.Verify(nil) {
			t.Errorf("%s: verifies another password, or not its own", name)
		}
		if h.Text() != text {
			t.Errorf("%s: got %s", name, h.Text())
		}
		if strings.Contains(fmt.Sprintf("%v %+v %#v %s", h, h, h, h), text[4:]) {
			t.Errorf("%s: printing shows the hash", name)
		}
	}
	if (Hash{}).Verify(nil) {
		t.Error("the zero hash lets somebody in")
	}
	if _, err := NewHash(nil); !errors.Is(err, ErrHash) {
		t.Errorf("an empty password: got %v, expected ErrHash", err)
	}
	other, err := NewHash([]byte("secret"))
	if err != nil || other.Text() == made.Text() {
		t.Errorf("two hashes of one password are the same: %v", err)
	}
}

func TestMosquittosFileIsRead(t *testing.T) {
	file := filepath.Join(t.TempDir(), "passwd")
	if out, err := exec.Command("mosquitto_passwd", "-b", "-c", file, "gate", "open sesame").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	users, err := ReadUsers(file)
	if err != nil {
		t.Fatal(err)
	}
	if h, ok := users.Lookup("gate"); !ok || !h.Verify([]byte("open sesame")) || h.Verify([]byte("open")) {
		t.Error("Mosquitto's hash does not verify its password, or another one")
	}
}

func TestHashesThatCostTooMuchAreRefused(t *testing.T) {
	const rest = "$AQIDBAUGBwgJCgsM$AQIDBAUGBwgJCgsMDQ4PEA"
	if _, err := ParseHash("$argon2id$v=19$m=262144,t=16,p=16" + rest); err != nil {
		t.Errorf("the most that is allowed: %v", err)
	}
	for _, text := range []string{
		"", "secret", "$", "$5$a$b", "$7$101$x", "$7$0$AQIDBAUGBwgJCgsM$AQID", "$7$10000001$AQIDBAUGBwgJCgsM$AQID", "$7$101$AQIDBAUGBwgJCgsM$AQIDBAUGBwgJCgsM",
		"$argon2id$v=19$m=262145,t=2,p=1" + rest, "$argon2id$v=19$m=1024,t=17,p=1" + rest, "$argon2id$v=19$m=1024,t=1,p=17" + rest,
		"$argon2id$v=19$m=1024,t=0,p=1" + rest, "$argon2id$v=16$m=1024,t=1,p=1" + rest, "$argon2id$v=19$t=1,m=1024,p=1" + rest,
		"$argon2id$v=19$m=1024,t=1,p=1$short$AQIDBAUGBwgJCgsMDQ4PEA", "$argon2i$v=19$m=1024,t=1,p=1" + rest,
	} {
		if _, err := ParseHash(text); !errors.Is(err, ErrHash) {
			t.Errorf("%s: got %v, expected ErrHash", text, err)
		}
	}
}

func TestEveryMistakeInUsersIsNamedWithItsLine(t *testing.T) {
	hash := "$6$AQIDBAUGBwgJCgsM$" + sha512Of("x", "y")
	text := "# users\n\na:" + hash + "\nno colon\nb:plain secret\na:" + hash + "\n :" + hash + "\n"
	_, err := ParseUsers("u", []byte(text))
	if !errors.Is(err, ErrFile) {
		t.Fatalf("got %v, expected ErrFile", err)
	}
	for _, want := range []string{"u:4: expected name:hash", `u:5: user "b": password hash`, `u:6: user "a" is there twice`, "u:7: user name"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("missing %q in:\n%v", want, err)
		}
	}
	if strings.Contains(err.Error(), "plain secret") {
		t.Errorf("what may be a password is shown:\n%v", err)
	}
}

func TestUsersAreWrittenForTheirOwnerOnly(t *testing.T) {
	file := filepath.Join(t.TempDir(), "users")
	h, err := NewHash([]byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	users := (&Users{}).With("b", h).With("a", h)
	if err := users.Write(file); err != nil {
		t.Fatal(err)
	}
	expectMode(t, file, 0o600)
	if err := os.Chmod(file, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := users.Without("a").Write(file); err != nil {
		t.Fatal(err)
	}
	expectMode(t, file, 0o640)
	again, err := ReadUsers(file)
	if err != nil || !slices.Equal(again.Names(), []string{"b"}) {
		t.Errorf("got %v, %v", again.Names(), err)
	}
	if left, err := filepath.Glob(filepath.Join(filepath.Dir(file), ".*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}

func expectMode(t *testing.T, file string, want fs.FileMode) {
	t.Helper()
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	if got := info.Mode().Perm(); got != want {
		t.Errorf("%s: got mode %o, expected %o", file, got, want)
	}
}

const rules = `
# devices without a name
topic read status/#
user press
topic write press/+/state
topic readwrite press/own
topic press/both
topic deny press/9/#
topic write vision/r/s/cam/detection
client gate-1
topic read gate/#
pattern write dev/%u/#
pattern read cmd/%c
pattern deny secret/#
user admin
topic #
`

func TestRights(t *testing.T) {
	acl, err := ParseACL("acl", []byte(rules))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		user, client string
		write        string // topics, of which those with ! are refused
		read         string
	}{
		{"", "x", "!status/a !dev//a !press/own", "status/a status !press/own !secret/a cmd/x !cmd/y !$SYS/a"},
		{"press", "x", "press/1/state !press/1/other press/own press/both !press/9/state dev/press/a !dev/other/a !status/a", "press/own press/both !press/1/state !status/a"},
		{"other", "gate-1", "dev/other/a !gate/1", "gate/1 gate !press/own cmd/gate-1"},
		{"admin", "x", "a b/c !secret/x !$SYS/x", "a b/c !secret !secret/x !$SYS/x"},
		{"a/b", "x", "!dev/a/b !dev/a/b/c", "cmd/x"},
		{"+", "#", "!dev/x/y !dev/+/y", "!cmd/x !cmd/#"},
	} {
		r := acl.Of(c.user, c.client)
		for _, topic := range strings.Fields(c.write) {
			topic, refused := strings.CutPrefix(topic, "!")
			if r.Write(topic) == refused {
				t.Errorf("%q %q: write %s: got %v", c.user, c.client, topic, !refused)
			}
		}
		for _, topic := range strings.Fields(c.read) {
			topic, refused := strings.CutPrefix(topic, "!")
			for range 2 { // the second time from memory
				if r.Read(topic) == refused {
					t.Errorf("%q %q: read %s: got %v", c.user, c.client, topic, !refused)
				}
			}
		}
	}
}

func TestReservedTopicsNeedARuleThatNamesThem(t *testing.T) {
	acl, err := ParseACL("acl", []byte(rules+"pattern write %u/x\n"))
	if err != nil {
		t.Fatal(err)
	}
	for user, want := range map[string]bool{"press": true, "admin": false, "vision": false, "other": false, "": false} {
		if got := acl.Of(user, "c").WriteBelow("vision/", "vision/r/s/cam/detection"); got != want {
			t.Errorf("%q: got %v, expected %v", user, got, want)
		}
	}
	if acl.Of("vision", "c").WriteBelow("vision/", "vision/x") || !acl.Of("vision", "c").Write("vision/x") {
		t.Error("a user is called like a reserved prefix, and so may use it")
	}
	if (*ACL)(nil).Of("press", "c").WriteBelow("vision/", "vision/x") {
		t.Error("granted without rules")
	}
}

func TestADenyIsNotGotAroundByAName(t *testing.T) {
	acl, err := ParseACL("acl", []byte("topic #\nuser a/b\ntopic #\npattern deny private/%u/#\npattern deny ids/%c\n"))
	if err != nil {
		t.Fatal(err)
	}
	if r := acl.Of("a/b", "c"); r.Read("x") || r.Write("x") || r.Subscribe("x") {
		t.Error("a name that does not fit a deny keeps its rights")
	}
	if r := acl.Of("", "c"); !r.Read("x") || r.Read("ids/c") {
		t.Error("a deny of users holds for those without a name, or one of client ids does not")
	}
}

func TestSubscriptionsAreJudgedByWhatTheyCanBring(t *testing.T) {
	acl, err := ParseACL("acl", []byte("user u\ntopic read a/b/#\ntopic read x/+/z\ntopic deny a/b/c/#\n"))
	if err != nil {
		t.Fatal(err)
	}
	r := acl.Of("u", "c")
	for filter, want := range map[string]bool{
		"#": true, "a/#": true, "a/b": true, "a/+/d": true, "+/+": true, "x/y/z": true, "+/+/z": true, "$share/g/a/b/d": true,
		"a": false, "b/#": false, "a/b/c": false, "a/b/c/d": false, "a/b/c/#": false, "a/c": false, "x/y": false, "x/+": false,
		"$SYS/#": false, "$share/g/b": false, "$share/g/a/b/c/d": false,
	} {
		if got := r.Subscribe(filter); got != want {
			t.Errorf("%s: got %v, expected %v", filter, got, want)
		}
	}
}

func TestEveryMistakeInRulesIsNamedWithItsLine(t *testing.T) {
	_, err := ParseACL("acl", []byte("topic read a/#/b\nuser\ntopics x\ntopic write dev/%u\npattern deny a+\nuser x\ntopic reed x\ntopic\nclient\npattern read $share/g/x\nTopic x\npattern read %x/#\npattern read dev/%u/100%\n"))
	if !errors.Is(err, ErrFile) {
		t.Fatalf("got %v, expected ErrFile", err)
	}
	for _, want := range []string{
		"acl:1: not a topic filter", "acl:2: user name", `acl:3: got "topics", expected user`, "acl:4: ", "acl:5: not a topic filter",
		`acl:7: got "reed", expected read, write, readwrite or deny`, "acl:8: not a topic filter", "acl:9: client", "acl:10: not a topic filter", `acl:11: got "Topic"`, `acl:12: "%x/#": expected %u (the user) or %c`, "acl:13: ",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("missing %q in:\n%v", want, err)
		}
	}
	if strings.Contains(err.Error(), "acl:6") {
		t.Errorf("a good line is reported:\n%v", err)
	}
}
