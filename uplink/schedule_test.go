package uplink

import (
	"testing"
	"time"
)

func TestParseSchedule(t *testing.T) {
	for _, good := range []string{"", "off", "0 2 * * *", "*/15 0-6 * * 1-5", "0 2 31 * *", "30 4 1,15 * *"} {
		if _, err := ParseSchedule(good); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	for _, bad := range []string{"on", "2", "0 2 * *", "0 0 2 * * *", "61 2 * * *", "0 24 * * *", "0 2 30 2 *", "@daily", "TZ=UTC 0 2 * *", "a b c d e"} {
		if s, err := ParseSchedule(bad); err == nil {
			t.Errorf("%q is accepted: next at %v", bad, s.next(time.Now()))
		}
	}
}

func TestScheduleFindsRareDays(t *testing.T) {
	from := time.Date(2026, 3, 1, 2, 0, 0, 0, time.UTC)
	for expr, want := range map[string]string{
		"0 2 * * *":        "2026-03-02 02:00:00",
		"*/15 * * * *":     "2026-03-01 02:15:00",
		"0 2 31 * *":       "2026-03-31 02:00:00",
		"0 2 29 2 *":       "2028-02-29 02:00:00",
		"30 3 * * 1":       "2026-03-02 03:30:00",
		"0 0 1 1 *":        "2027-01-01 00:00:00",
		"59 23 28-31 12 5": "2026-12-04 23:59:00", // either day, as in crontab
	} {
		s, err := ParseSchedule(expr)
		if err != nil {
			t.Fatal(err)
		}
		if got := s.next(from).Format(time.DateTime); got != want {
			t.Errorf("%s: got %s, expected %s", expr, got, want)
		}
	}
}

// TestScheduleOnTheWall counts the runs of a year in zones whose clocks jump
// at 02:00: one a day, at 02:00 or when the missing hour is over.
func TestScheduleOnTheWall(t *testing.T) {
	s, err := ParseSchedule("0 2 * * *")
	if err != nil {
		t.Fatal(err)
	}
	for _, zone := range []string{"Europe/Berlin", "America/New_York", "Asia/Jakarta", "Australia/Lord_Howe"} {
		loc, err := time.LoadLocation(zone)
		if err != nil {
			t.Fatal(err)
		}
		now := time.Date(2026, 1, 1, 0, 0, 0, 0, loc)
		next, runs := s.next(wall(now)), map[string]int{}
		for ; now.Year() == 2026; now = now.Add(time.Minute) {
			if next.After(wall(now)) {
				continue
			}
			next = s.next(wall(now))
			runs[now.Format(time.DateOnly)]++
			if late := now.Hour()*60 + now.Minute() - 120; late != 0 && late != 30 && late != 60 {
				t.Errorf("%s: a run at %v", zone, now)
			}
		}
		if len(runs) != 365 {
			t.Errorf("%s: runs on %d days, expected 365", zone, len(runs))
		}
		for day, n := range runs {
			if n != 1 {
				t.Errorf("%s: %d runs on %s", zone, n, day)
			}
		}
	}
}
