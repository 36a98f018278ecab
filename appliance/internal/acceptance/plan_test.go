package acceptance

import (
	"slices"
	"testing"
	"time"
)

func TestPlan(t *testing.T) {
	for seed := range uint64(200) {
		for _, n := range [][2]int{{3, 3}, {1, 1}, {0, 4}, {5, 0}, {2, 6}} {
			length := 5 * time.Minute
			list := plan(seed, length, n[0], n[1])
			if !slices.Equal(list, plan(seed, length, n[0], n[1])) {
				t.Fatal("the plan of a seed changes")
			}
			checkPlan(t, list, length, n[0], n[1])
		}
	}
}

func checkPlan(t *testing.T, list []fault, length time.Duration, outages, kills int) {
	t.Helper()
	var mended time.Duration
	var first *fault
	for i, f := range list {
		if f.at < length/10 || f.at+f.long > length*8/10 {
			t.Errorf("%s from %v for %v in %v", f.kind, f.at, f.long, length)
		}
		switch f.kind {
		case Outage:
			if f.at < mended || f.long < time.Second {
				t.Errorf("outage at %v for %v, the one before ends at %v", f.at, f.long, mended)
			}
			if mended = f.at + f.long; first == nil {
				first = &list[i]
			}
			outages--
		case Kill:
			kills--
		}
	}
	if outages != 0 || kills != 0 {
		t.Errorf("left out: %d outages, %d kills", outages, kills)
	}
	if first != nil && slices.ContainsFunc(list, func(f fault) bool { return f.kind == Kill }) &&
		!slices.ContainsFunc(list, func(f fault) bool { return f.kind == Kill && f.at > first.at && f.at < first.at+first.long }) {
		t.Error("no kill in the first outage")
	}
}

func TestCheck(t *testing.T) {
	for _, c := range []struct {
		length         time.Duration
		outages, kills int
		ok             bool
	}{{5 * time.Minute, 3, 3, true}, {30 * time.Second, 1, 1, true}, {30 * time.Second, 2, 1, false}, {time.Hour, -1, 0, false}, {15 * time.Second, 0, 0, true}} {
		if err := Check(c.length, c.outages, c.kills); (err == nil) != c.ok {
			t.Errorf("%+v: %v", c, err)
		}
	}
}
