package wire

import (
	"encoding/json"
	"fmt"
	"time"
)

// timeLayout is RFC 3339 with exactly nine fractional digits.
const timeLayout = "2006-01-02T15:04:05.000000000Z07:00"

// Time is an instant as the contract writes it: RFC 3339, nanoseconds, UTC.
type Time struct{ time.Time }

// At makes a wire time of t.
func At(t time.Time) Time { return Time{t.UTC()} }

// MarshalJSON writes the instant in UTC with nine fractional digits.
func (t Time) MarshalJSON() ([]byte, error) {
	return []byte(`"` + t.UTC().Format(timeLayout) + `"`), nil
}

// UnmarshalJSON reads any RFC 3339 time, with or without a fraction.
func (t *Time) UnmarshalJSON(b []byte) error {
	var s string
	if json.Unmarshal(b, &s) != nil {
		return &timeError{string(b)}
	}
	parsed, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return &timeError{string(b)}
	}
	t.Time = parsed.UTC()
	return nil
}

// timeError is a value in JSON that is no time. Go's own error explains itself
// with a layout that only Go knows.
type timeError struct{ got string }

func (e *timeError) Error() string {
	return fmt.Sprintf(`expected RFC 3339 such as "2026-11-21T12:00:00.000Z", got %.40s`, e.got)
}
