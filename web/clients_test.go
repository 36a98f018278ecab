package web

import (
	"fmt"
	"strings"
	"testing"
)

func TestBusiestFirst(t *testing.T) {
	var all []Client
	for i := range 30 {
		all = append(all, Client{ID: fmt.Sprintf("c%02d", i), MessagesIn: uint64(i % 3)})
	}
	all[7].MessagesOutPerS = 5
	all[9].MessagesInPerS = 6
	all[11].MessagesInPerS = 0.3 // no more than noise
	got := BusiestOf(all)
	if len(got) != maxBusiest || got[0].ID != "c09" || got[1].ID != "c07" || got[2].ID != "c02" || got[3].ID != "c05" {
		t.Errorf("got %v", got)
	}
	if all[0].ID != "c00" {
		t.Error("the argument was changed")
	}
	if got := BusiestOf(all[:1]); len(got) != 1 {
		t.Errorf("got %v", got)
	}
}

func TestNamesAreClipped(t *testing.T) {
	for name, want := range map[string]string{
		"press-7":                "press-7",
		"a\u202eb\nc\x00":        "a\ufffdb\ufffdc\ufffd",
		strings.Repeat("ü", 48):  strings.Repeat("ü", 48),
		strings.Repeat("ü", 900): strings.Repeat("ü", 47) + "…",
	} {
		if got := clip(name); got != want {
			t.Errorf("got %q, expected %q", got, want)
		}
	}
}
