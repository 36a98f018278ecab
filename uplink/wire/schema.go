package wire

import (
	"errors"
	"fmt"
)

// Schema versions, as they stand in schema_version.
const (
	DetectionV1 = "detection.v1"
	BlindV1     = "blind.v1"
	EnvelopeV21 = "2.1"
)

// Errors of reading a message. Both are wrapped with what was got and what
// was expected.
var (
	// ErrSchema is a schema_version that this package does not speak.
	ErrSchema = errors.New("unknown schema_version")
	// ErrInvalid is a message of a known schema that breaks its rules.
	ErrInvalid = errors.New("invalid message")
)

// invalid wraps ErrInvalid with a reason.
func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrInvalid, fmt.Sprintf(format, args...))
}

// checkSchema compares the schema_version of a message with the expected one.
func checkSchema(got, want string) error {
	if got != want {
		return fmt.Errorf("%w: got %q, expected %q", ErrSchema, got, want)
	}
	return nil
}

// required returns an error naming the first of the pairs (name, value) whose
// value is empty.
func required(pairs ...string) error {
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] == "" {
			return invalid("%s is missing", pairs[i])
		}
	}
	return nil
}
