package web

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// count writes a whole number in groups of three, with narrow no-break spaces.
func count[T int | uint64](n T) string {
	digits := strconv.FormatInt(int64(n), 10)
	if n > 0 {
		digits = strconv.FormatUint(uint64(n), 10)
	}
	sign := ""
	if strings.HasPrefix(digits, "-") {
		sign, digits = "\u2212", digits[1:]
	}
	var b strings.Builder
	for i, d := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 {
			b.WriteRune('\u202f')
		}
		b.WriteRune(d)
	}
	return sign + b.String()
}

// many writes how many there are of what one and more name.
func many[T int | uint64](n T, one, more string) string {
	if n == 1 {
		return count(n) + " " + one
	}
	return count(n) + " " + more
}

// size writes bytes in binary units, with three digits at least where they mean something.
func size(bytes uint64) string {
	value, unit := float64(bytes), 0
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	for value >= 1024 && unit < len(units)-1 {
		value, unit = value/1024, unit+1
	}
	if unit == 0 || value >= 100 {
		return fmt.Sprintf("%.0f\u00a0%s", value, units[unit])
	}
	return fmt.Sprintf("%.1f\u00a0%s", value, units[unit])
}

// decimal writes a measured number with one decimal below 100 and none above.
func decimal(f float64) string {
	switch {
	case math.IsNaN(f) || math.IsInf(f, 0):
		return "?"
	case math.Abs(f) < 99.95:
		return strconv.FormatFloat(f, 'f', 1, 64)
	case math.Abs(f) > math.MaxInt32:
		return strconv.FormatFloat(f, 'g', 4, 64)
	}
	return count(int(math.Round(f)))
}

// spanOf writes a duration with its two largest units, from seconds to days.
func spanOf(d time.Duration) string {
	s := int64(max(d, 0) / time.Second)
	parts := []struct {
		n    int64
		unit string
	}{{s / 86400, "d"}, {s / 3600 % 24, "h"}, {s / 60 % 60, "min"}, {s % 60, "s"}}
	for i, p := range parts {
		switch {
		case p.n == 0 && i < len(parts)-1:
			continue
		case i == len(parts)-1 || parts[i+1].n == 0:
			return fmt.Sprintf("%d\u00a0%s", p.n, p.unit)
		}
		return fmt.Sprintf("%d\u00a0%s %d\u00a0%s", p.n, p.unit, parts[i+1].n, parts[i+1].unit)
	}
	return ""
}

// about writes an estimate of seconds with as much precision as it has.
func about(seconds float64) string {
	switch minutes := math.Round(seconds / 60); {
	case seconds < 60:
		return "less than a minute"
	case minutes < 90:
		return fmt.Sprintf("about %.0f\u00a0min", minutes)
	case minutes < 36*60:
		return fmt.Sprintf("about %.0f\u00a0h", math.Round(minutes/60))
	case minutes < 1000*24*60:
		return fmt.Sprintf("about %.0f days", math.Round(minutes/(24*60)))
	}
	return "years"
}

// ago writes how long before now at was; empty where at is not known.
func ago(now, at time.Time) string {
	if at.IsZero() {
		return ""
	}
	return spanOf(now.Sub(at))
}

// clock writes the time of day in UTC.
func clock(at time.Time) string { return at.UTC().Format("15:04:05") }

// stamp writes a time in full, in UTC.
func stamp(at time.Time) string { return at.UTC().Format("2006-01-02 15:04:05 UTC") }
