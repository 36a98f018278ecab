package vision

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"
)

// The windows of Coverage and their steps.
const (
	hourStep, hourSteps = time.Minute, 60
	daySteps            = 288
	dayStep             = 24 * time.Hour / daySteps
)

// Coverage is in which part of the last hour and day a camera was inspected.
// The zero value is ready. It is not safe for concurrent use.
//
// Time in which nothing is added counts as not covered, also that between two
// processes. The windows move by a step, a minute and five minutes; so the hour
// is between 59 and 60 minutes long.
type Coverage struct {
	since     time.Time // nothing is known from before
	hour, day window
}

// window is the covered time of the latest steps, by the wall clock.
type window struct {
	last    int64           // number of the newest step since 1970
	covered []time.Duration // oldest first; its last one belongs to last
}

// begin says that a camera is to be inspected from now on, if not before.
func (c *Coverage) begin(now time.Time) {
	if c.since.IsZero() || c.since.After(now) {
		c.since = now.Round(0)
	}
}

// add says that the camera was inspected for the time d that ended at to. It
// goes by the wall clock at to, so that a clock that is set meanwhile moves
// what was covered and does not stretch it.
func (c *Coverage) add(to time.Time, d time.Duration) {
	to = to.Round(0)
	c.hour.add(to, d, hourStep, hourSteps)
	c.day.add(to, d, dayStep, daySteps)
}

// Shares returns the covered parts of the last hour and day, in [0, 1], or of
// the time since the camera is known where that is shorter. latest is covered
// time up to now that was not added yet.
func (c *Coverage) Shares(now time.Time, latest time.Duration) (hour, day float64) {
	if c.since.IsZero() {
		return 0, 0
	}
	now = now.Round(0)
	known := max(0, now.Sub(c.since))
	return c.hour.share(now, latest, known, hourStep, hourSteps), c.day.share(now, latest, known, dayStep, daySteps)
}

func (c *Coverage) clone() Coverage {
	return Coverage{
		since: c.since, hour: window{c.hour.last, slices.Clone(c.hour.covered)}, day: window{c.day.last, slices.Clone(c.day.covered)},
	}
}

// numberOf is the number of the step that holds t.
func numberOf(t time.Time, step time.Duration) int64 { return t.UnixNano() / int64(step) }

func (w *window) add(to time.Time, d, step time.Duration, steps int) {
	w.move(numberOf(to, step), steps)
	at := len(w.covered) - 1
	for part := time.Duration(to.UnixNano() % int64(step)); d > 0 && at >= 0; at-- {
		part = min(part, d)
		w.covered[at] = min(w.covered[at]+part, step) // a clock that is set back fills a step twice
		d -= part
		part = step
	}
}

// move makes last the newest step. A clock that was set back takes the history
// with it.
func (w *window) move(last int64, steps int) {
	if len(w.covered) != steps {
		w.covered = make([]time.Duration, steps)
	} else if ahead := last - w.last; ahead > 0 {
		n := int(min(ahead, int64(steps)))
		copy(w.covered, w.covered[n:])
		clear(w.covered[steps-n:])
	}
	w.last = last
}

func (w *window) share(now time.Time, latest, known, step time.Duration, steps int) float64 {
	length := time.Duration(steps-1)*step + time.Duration(now.UnixNano()%int64(step))
	sum := min(latest, length)
	gone := int(min(max(0, numberOf(now, step)-w.last), int64(len(w.covered))))
	for _, d := range w.covered[gone:] {
		sum += d
	}
	if length = min(length, known); length <= 0 {
		return 0
	}
	return min(1, sum.Seconds()/length.Seconds())
}

// coverageJSON is how Coverage is kept: covered milliseconds.
type coverageJSON struct {
	Since time.Time  `json:"since"`
	Hour  windowJSON `json:"hour"`
	Day   windowJSON `json:"day"`
}

type windowJSON struct {
	Last int64   `json:"last"`
	MS   []int64 `json:"ms"`
}

// MarshalJSON writes covered milliseconds, step by step.
func (c Coverage) MarshalJSON() ([]byte, error) {
	return json.Marshal(coverageJSON{c.since, c.hour.json(), c.day.json()})
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (c *Coverage) UnmarshalJSON(b []byte) error {
	var j coverageJSON
	if err := json.Unmarshal(b, &j); err != nil {
		return fmt.Errorf("coverage: %w", err)
	}
	hour, err := j.Hour.window(hourStep, hourSteps)
	if err != nil {
		return fmt.Errorf("coverage of the hour: %w", err)
	}
	day, err := j.Day.window(dayStep, daySteps)
	if err != nil {
		return fmt.Errorf("coverage of the day: %w", err)
	}
	*c = Coverage{j.Since, hour, day}
	return nil
}

func (w window) json() windowJSON {
	j := windowJSON{Last: w.last, MS: make([]int64, len(w.covered))}
	for i, d := range w.covered {
		j.MS[i] = d.Milliseconds()
	}
	return j
}

func (j windowJSON) window(step time.Duration, steps int) (window, error) {
	w := window{last: j.Last}
	if len(j.MS) == 0 {
		return w, nil
	}
	if len(j.MS) != steps {
		return w, fmt.Errorf("got %d steps, expected %d", len(j.MS), steps)
	}
	for _, ms := range j.MS {
		if ms < 0 || ms > step.Milliseconds() {
			return w, fmt.Errorf("got %d ms in a step of %v", ms, step)
		}
		w.covered = append(w.covered, time.Duration(ms)*time.Millisecond)
	}
	return w, nil
}
