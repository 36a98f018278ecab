package vision

import (
	"encoding/json"
	"math"
	"testing"
	"time"
)

// near compares shares, of which the window's step is the precision.
func near(t *testing.T, what string, got, want float64) {
	t.Helper()
	if math.Abs(got-want) > 0.02 {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

func TestCoverage(t *testing.T) {
	at := time.Date(2026, 11, 21, 12, 0, 30, 0, time.UTC)
	var c Coverage
	if h, d := c.Shares(at, 0); h != 0 || d != 0 {
		t.Errorf("of nothing: %v, %v", h, d)
	}
	c.begin(at)
	for range 30 * 60 * 25 { // half an hour at 25 frames a second
		at = at.Add(40 * time.Millisecond)
		c.add(at, 40*time.Millisecond)
	}
	hour, day := c.Shares(at, 0)
	near(t, "all of the first half hour", hour, 1)
	near(t, "and of the day", day, 1)
	at = at.Add(90 * time.Minute)
	hour, day = c.Shares(at, 0)
	near(t, "after an hour and a half without", hour, 0)
	near(t, "of the two hours", day, 0.25)
	c.add(at, 10*time.Minute)
	hour, _ = c.Shares(at.Add(5*time.Second), 5*time.Second)
	near(t, "with ten minutes more", hour, 10./60)

	text, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	var again Coverage
	if err := json.Unmarshal(text, &again); err != nil {
		t.Fatal(err)
	}
	h, d := again.Shares(at, 0)
	near(t, "kept, of the hour", h, 10./60)
	near(t, "kept, of the day", d, 40./120)

	_, day = c.Shares(at.Add(30*time.Hour), 0)
	near(t, "the day after", day, 0)
	back := at.Add(-time.Hour) // the clock is set back: what was covered stays
	c.add(back, time.Second)
	hour, _ = c.Shares(back, 0)
	near(t, "after the clock was set back", hour, 10./60)
}

func TestCoverageRefusesWhatItDidNotWrite(t *testing.T) {
	for _, text := range []string{`{"hour":{"ms":[1]}}`, `[]`, `{"since":"x"}`, `{"day":{"ms":[-1]}}`} {
		if err := json.Unmarshal([]byte(text), new(Coverage)); err == nil {
			t.Errorf("accepted %s", text)
		}
	}
}
