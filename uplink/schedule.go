package uplink

import (
	"fmt"
	"strings"
	"time"

	"github.com/adhocore/gronx"
)

// Schedule says when something is done, in local time. The zero value is
// never.
type Schedule struct{ expr string }

// ParseSchedule reads a cron expression of five fields (minute, hour, day of
// the month, month, day of the week) such as "0 2 * * *". Nothing and "off"
// are never.
func ParseSchedule(s string) (Schedule, error) {
	if s == "" || s == "off" {
		return Schedule{}, nil
	}
	bad := fmt.Errorf(`schedule: got %q, expected off or a cron expression of five fields such as "0 2 * * *"`, s)
	if len(strings.Fields(s)) != 5 || !gronx.IsValid(s) {
		return Schedule{}, bad
	}
	if _, err := gronx.NextTickAfter(s, time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC), false); err != nil {
		return Schedule{}, fmt.Errorf("%w: it never comes: %w", bad, err)
	}
	return Schedule{s}, nil
}

// next is the first time after t, or the zero time for never. Both are what a
// clock on the wall shows, see wall.
func (s Schedule) next(t time.Time) time.Time {
	if s.expr == "" {
		return time.Time{}
	}
	next, err := gronx.NextTickAfter(s.expr, t, false)
	if err != nil { // not within the years that the library looks ahead
		return time.Time{}
	}
	return next
}

// wall is what a clock on the wall shows at t, as if it were UTC: without
// summer time, so that an hour that is left out or comes twice neither hides
// nor doubles what is due in it.
func wall(t time.Time) time.Time {
	return time.Date(t.Year(), t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), 0, time.UTC)
}

// unwall is when a clock on the wall shows w in loc.
func unwall(w time.Time, loc *time.Location) time.Time {
	return time.Date(w.Year(), w.Month(), w.Day(), w.Hour(), w.Minute(), w.Second(), 0, loc)
}
