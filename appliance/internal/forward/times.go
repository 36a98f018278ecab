package forward

import (
	"math"
	"strconv"
	"strings"
	"time"
)

// Bounds of what is taken for a time. A clock before the first was never set:
// after a restart it would repeat its times, and with them the keys of other
// events.
var (
	firstTime = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	lastTime  = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
)

// fromMilliseconds is the smallest number that counts milliseconds and not
// seconds: the year 5138 of the one and 1973 of the other.
const fromMilliseconds = 1e11

// ParseTime reads RFC 3339, or a number of seconds or milliseconds since 1970.
// ok is false for anything else and for a clock that was never set; the time
// is zero then.
func ParseTime(s string) (t time.Time, ok bool) {
	s = strings.TrimSpace(s)
	if t, err := time.Parse(time.RFC3339Nano, s); err == nil {
		return plausible(t.UTC())
	}
	if ms, err := strconv.ParseInt(s, 10, 64); err == nil {
		if ms < fromMilliseconds {
			return plausible(time.Unix(ms, 0).UTC())
		}
		return plausible(time.UnixMilli(ms).UTC())
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || math.IsNaN(f) || math.Abs(f) > 1e15 {
		return time.Time{}, false
	}
	if f >= fromMilliseconds {
		f /= 1e3
	}
	whole, part := math.Modf(f)
	// A float64 of this size tells microseconds apart, not nanoseconds.
	return plausible(time.Unix(int64(whole), int64(math.Round(part*1e6))*1e3).UTC())
}

func plausible(t time.Time) (time.Time, bool) {
	if t.Before(firstTime) || t.After(lastTime) {
		return time.Time{}, false
	}
	return t, true
}
