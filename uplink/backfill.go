package uplink

import (
	"fmt"
	"time"
)

// Backfill limits how history, which an outage left, shares the link with
// what is new. The zero value has no limit but the window.
type Backfill struct {
	// Share is the largest part of the window that history may fill, in
	// (0, 1]; 0 means DefaultBackfillShare.
	Share float64
	Rate  int64 // bytes a second, topics and payloads; 0 means no limit
	Quiet Hours // in which history waits
}

// DefaultBackfillShare leaves half of the window to what is new.
const DefaultBackfillShare = 0.5

// Hours is a span of every day in local time, such as 06:00-22:00. It may
// pass midnight; the zero value is empty.
type Hours struct{ from, to int } // minutes of the day

// ParseHours reads "06:00-22:00"; an empty text is the empty span.
func ParseHours(s string) (Hours, error) {
	if s == "" {
		return Hours{}, nil
	}
	var h, m, h2, m2 int
	n, err := fmt.Sscanf(s, "%d:%d-%d:%d", &h, &m, &h2, &m2)
	if err != nil || n != 4 || h < 0 || h > 24 || h2 < 0 || h2 > 24 || m < 0 || m > 59 || m2 < 0 || m2 > 59 {
		return Hours{}, fmt.Errorf("hours: got %q, expected a span such as 06:00-22:00", s)
	}
	return Hours{h*60 + m, h2*60 + m2}, nil
}

// Contains reports whether t, in its own location, lies in the span.
func (h Hours) Contains(t time.Time) bool {
	now := t.Hour()*60 + t.Minute()
	if h.from <= h.to {
		return now >= h.from && now < h.to
	}
	return now >= h.from || now < h.to
}

// backfillPause is how long history waits before its limits are looked at
// again.
const backfillPause = 20 * time.Millisecond

// backfiller keeps count of the history that is sent. The sender owns it.
type backfiller struct {
	limit Backfill
	next  time.Time // when the rate allows more
}

// room is how many records of history may be sent now, of those that fit
// into the window beside the ones in flight.
func (b *backfiller) room(now time.Time, window, inFlight int) int {
	if b.held(now) {
		return 0
	}
	share := b.limit.Share
	if share == 0 {
		share = DefaultBackfillShare
	}
	return max(0, max(1, int(share*float64(window)))-inFlight)
}

// held reports whether the rate or the hour holds history back.
func (b *backfiller) held(now time.Time) bool {
	return b.limit.Quiet.Contains(now) || now.Before(b.next)
}

// sent counts history that was sent.
func (b *backfiller) sent(now time.Time, bytes int64) {
	if b.limit.Rate <= 0 {
		return
	}
	if b.next.Before(now) {
		b.next = now
	}
	b.next = b.next.Add(time.Duration(float64(bytes) / float64(b.limit.Rate) * float64(time.Second)))
}
