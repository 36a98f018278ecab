package access

import (
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/crypto/argon2"
)

// Cost of a new hash: the second choice of OWASP's for argon2id, which a small
// box can pay for each device that comes back after a power cut.
const (
	newMemory  = 19 << 10 // KiB
	newPasses  = 2
	newThreads = 1
	saltBytes  = 16
	keyBytes   = 32
)

// Bounds of what a hash may cost.
const (
	MaxMemory     = 256 << 10 // KiB
	MaxPasses     = 16
	maxThreads    = 16
	maxIterations = 10_000_000
)

// ErrHash says that a password's hash cannot be used.
var ErrHash = errors.New("password hash")

// Hash is what a password is checked against. The zero value fits no password.
type Hash struct {
	text   string
	scheme scheme
	salt   []byte
	key    []byte
	// cost of the scheme: KiB, passes and threads of argon2id, or iterations
	memory     uint32
	passes     uint32
	threads    uint8
	iterations int
}

type scheme byte

const (
	argon2id scheme = iota + 1
	pbkdf2SHA512
	saltedSHA512
)

// NewHash hashes a password with argon2id and a salt of its own.
func NewHash(password []byte) (Hash, error) {
	if len(password) == 0 {
		return Hash{}, fmt.Errorf("%w: got an empty password", ErrHash)
	}
	h := Hash{scheme: argon2id, salt: make([]byte, saltBytes), memory: newMemory, passes: newPasses, threads: newThreads}
	_, _ = rand.Read(h.salt) // it never fails
	h.key = argon2.IDKey(password, h.salt, h.passes, h.memory, h.threads, keyBytes)
	b64 := base64.RawStdEncoding
	h.text = fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, h.memory, h.passes, h.threads,
		b64.EncodeToString(h.salt), b64.EncodeToString(h.key))
	return h, nil
}

// ParseHash reads a hash: argon2id as a PHC string, or one of Mosquitto's,
// $7$ (PBKDF2 with SHA-512) and $6$ (SHA-512 with a salt).
func ParseHash(text string) (Hash, error) {
	part := strings.Split(text, "$")
	if len(part) < 4 || part[0] != "" {
		return Hash{}, fmt.Errorf("%w: expected $argon2id$…, $7$… or $6$…", ErrHash)
	}
	h := Hash{text: text}
	var err error
	switch {
	case part[1] == "argon2id" && len(part) == 6:
		err = h.parseArgon2(part)
	case part[1] == "7" && len(part) == 5:
		h.scheme = pbkdf2SHA512
		if h.iterations, err = strconv.Atoi(part[2]); err != nil || h.iterations < 1 || h.iterations > maxIterations {
			return Hash{}, fmt.Errorf("%w: $7$: expected 1 to %d iterations", ErrHash, maxIterations)
		}
		err = h.bytes(base64.StdEncoding, part[3], part[4])
	case part[1] == "6" && len(part) == 4:
		h.scheme = saltedSHA512
		err = h.bytes(base64.StdEncoding, part[2], part[3])
	default:
		return Hash{}, fmt.Errorf("%w: expected $argon2id$…, $7$… or $6$…", ErrHash)
	}
	if err == nil && h.scheme != argon2id && len(h.key) != sha512.Size {
		err = fmt.Errorf("%w: got a key of %d bytes, expected %d", ErrHash, len(h.key), sha512.Size)
	}
	if err != nil {
		return Hash{}, err
	}
	return h, nil
}

// parseArgon2 reads "", "argon2id", v=19, m=…,t=…,p=…, the salt and the key.
func (h *Hash) parseArgon2(part []string) error {
	h.scheme = argon2id
	if want := fmt.Sprintf("v=%d", argon2.Version); part[2] != want {
		return fmt.Errorf("%w: argon2id: expected %s", ErrHash, want)
	}
	cost := strings.Split(part[3], ",")
	if len(cost) != 3 {
		return fmt.Errorf("%w: argon2id: expected m=…,t=…,p=…", ErrHash)
	}
	var value [3]uint64
	for i, limit := range []struct {
		name string
		most uint64
	}{{"m=", MaxMemory}, {"t=", MaxPasses}, {"p=", maxThreads}} {
		digits, ok := strings.CutPrefix(cost[i], limit.name)
		n, err := strconv.ParseUint(digits, 10, 32)
		if !ok || err != nil || n < 1 || n > limit.most {
			return fmt.Errorf("%w: argon2id: expected %s1 to %d", ErrHash, limit.name, limit.most)
		}
		value[i] = n
	}
	h.memory, h.passes, h.threads = uint32(value[0]), uint32(value[1]), uint8(value[2])
	return h.bytes(base64.RawStdEncoding, part[4], part[5])
}

func (h *Hash) bytes(b64 *base64.Encoding, salt, key string) (err error) {
	if h.salt, err = b64.Strict().DecodeString(salt); err != nil || len(h.salt) < 8 || len(h.salt) > 64 {
		return fmt.Errorf("%w: expected a salt of 8 to 64 bytes in base64", ErrHash)
	}
	if h.key, err = b64.Strict().DecodeString(key); err != nil || len(h.key) < 16 || len(h.key) > 64 {
		return fmt.Errorf("%w: expected a key of 16 to 64 bytes in base64", ErrHash)
	}
	return nil
}

// Verify reports whether the hash is that of a password. It takes the time and
// the memory that the hash says, and compares in constant time.
func (h Hash) Verify(password []byte) bool {
	var got []byte
	switch h.scheme {
	case argon2id:
		got = argon2.IDKey(password, h.salt, h.passes, h.memory, h.threads, uint32(len(h.key)))
	case pbkdf2SHA512:
		var err error
		if got, err = pbkdf2.Key(sha512.New, string(password), h.salt, h.iterations, len(h.key)); err != nil {
			return false
		}
	case saltedSHA512:
		sum := sha512.Sum512(append(append([]byte(nil), password...), h.salt...))
		got = sum[:]
	default:
		return false
	}
	return subtle.ConstantTimeCompare(got, h.key) == 1
}

// Strong reports whether the hash is argon2id, and so takes about as long as a
// new one.
func (h Hash) Strong() bool { return h.scheme == argon2id }

// Text is the hash as it is written in a file.
func (h Hash) Text() string { return h.text }

// String does not show the hash.
func (h Hash) String() string { return "(hash)" }

// GoString does not show the hash.
func (h Hash) GoString() string { return "(hash)" }
