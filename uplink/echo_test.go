package uplink

import (
	"fmt"
	"hash/maphash"
	"testing"
	"time"
)

func TestOneEchoIsTakenForEachPublish(t *testing.T) {
	e := echoes{seed: maphash.MakeSeed()}
	now := time.Now()
	expect := func(what, topic, payload string, retained, want bool) {
		t.Helper()
		if got := e.take(now, topic, []byte(payload), retained); got != want {
			t.Errorf("%s: got %v, expected %v", what, got, want)
		}
	}
	e.sent(now, "a", []byte("1"), false)
	e.sent(now, "a", []byte("2"), false)
	e.sent(now, "a", []byte("1"), false)
	expect("another topic", "b", "1", false, false)
	expect("another split", "a1", "", false, false)
	expect("the second first", "a", "2", false, true)
	expect("the first", "a", "1", false, true)
	expect("the third", "a", "1", false, true)
	expect("one more", "a", "1", false, false)

	e.sent(now, "a", []byte("old"), false)
	now = now.Add(echoAge + time.Second)
	expect("after its time", "a", "old", false, false)

	e.sent(now, "a", []byte("over an outage"), false)
	now = now.Add(time.Hour)
	e.renew(now)
	expect("that an outage held", "a", "over an outage", false, true)
}

func TestARetainedEchoIsTakenEachTime(t *testing.T) {
	e := echoes{seed: maphash.MakeSeed()}
	now := time.Now()
	e.sent(now, "a", []byte("v1"), true)
	e.sent(now, "a", []byte("v2"), true)
	for range 3 {
		now = now.Add(time.Hour)
		if !e.take(now, "a", []byte("v1"), true) || !e.take(now, "a", []byte("v2"), true) {
			t.Error("a retained message of our own came for another's")
		}
	}
	if e.take(now, "a", []byte("v3"), true) {
		t.Error("a retained message of another came for our own")
	}
}

func TestEchoesAreBounded(t *testing.T) {
	e := echoes{seed: maphash.MakeSeed()}
	now := time.Now()
	for i := range maxEchoes + 10 {
		e.sent(now, "a", fmt.Appendf(nil, "%d", i), true)
	}
	if len(e.live) != maxEchoes || len(e.kept) != maxEchoes || e.lost() != 20 {
		t.Errorf("%d and %d remembered, %d forgotten", len(e.live), len(e.kept), e.lost())
	}
	if e.take(now, "a", []byte("9"), false) || !e.take(now, "a", []byte("10"), false) {
		t.Error("not the oldest was forgotten")
	}
}
