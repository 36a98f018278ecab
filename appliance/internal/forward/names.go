package forward

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

// maxLevel is the length of a level in the contract's topics, in bytes.
const maxLevel = 64

// Level turns a name into a level of a topic: lower case, every run of other
// characters than a-z 0-9 . _ - becomes one "-", what is neither letter nor
// digit at the beginning is left out as are "-" at the end, and what is longer
// than 64 is cut. The result is empty where nothing is left.
func Level(name string) string {
	var b strings.Builder
	gap := false
	for _, r := range strings.ToLower(name) {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', b.Len() > 0 && strings.ContainsRune("._-", r):
			if gap && b.Len() > 0 {
				b.WriteByte('-')
			}
			b.WriteRune(r)
			gap = false
		default:
			gap = true
		}
		if b.Len() > maxLevel {
			break
		}
	}
	s := b.String()
	return strings.TrimRight(s[:min(len(s), maxLevel)], "-")
}

// Subject turns the name of a device into the part of an idempotency key: a
// name that is a level stays as it is. Any other is normalised by Level and
// gets the beginning of its SHA-256, so that "Door 1" and "door-1" stay two
// devices.
func Subject(name string) string {
	level := Level(name)
	if level == name && name != "" {
		return name
	}
	sum := sha256.Sum256([]byte(name))
	hash := hex.EncodeToString(sum[:4])
	if level == "" {
		return hash
	}
	return level[:min(len(level), maxLevel-1-len(hash))] + "-" + hash
}
