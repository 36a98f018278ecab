package uplink

import (
	"hash/maphash"
	"slices"
	"sync"
	"time"
)

const (
	// maxEchoes bounds what is remembered; several windows of publishes.
	maxEchoes = 4096
	// echoAge is how long an echo is waited for while connected. One that
	// waits in the centre's session during an outage does not grow older.
	echoAge = time.Minute
)

// echoes remembers what was published on topics that come down again: MQTT
// 3.1.1 has no no-local, so the centre sends it back to whoever sent it. One
// echo is taken for each publish. It is safe for concurrent use.
//
// What this costs: a message of the centre's own that equals, topic and
// payload, what this appliance sent in the last minute is taken for the echo
// if the echo itself did not come. What it does not see: an echo of what an
// earlier process sent, and a second arrival of one that was taken already.
type echoes struct {
	seed maphash.Seed

	mu        sync.Mutex
	live      []echo // oldest first
	kept      []echo // retained ones, oldest first
	forgotten uint64 // that had to make room before they came or grew old
}

type echo struct {
	sum uint64
	at  time.Time
}

func (e *echoes) sum(topic string, payload []byte) uint64 {
	var h maphash.Hash
	h.SetSeed(e.seed)
	_, _ = h.WriteString(topic) // never fails
	_ = h.WriteByte(0)
	_, _ = h.Write(payload)
	return h.Sum64()
}

// sent remembers a publish to the centre.
func (e *echoes) sent(now time.Time, topic string, payload []byte, retain bool) {
	sum := e.sum(topic, payload)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.expire(now)
	if len(e.live) == maxEchoes {
		e.live = e.live[1:]
		e.forgotten++
	}
	e.live = append(e.live, echo{sum, now})
	if !retain {
		return
	}
	e.kept = slices.DeleteFunc(e.kept, func(k echo) bool { return k.sum == sum })
	if len(e.kept) == maxEchoes {
		e.kept = slices.Delete(e.kept, 0, 1)
		e.forgotten++
	}
	e.kept = append(e.kept, echo{sum, now})
}

// take reports whether what came down is an echo. A retained message comes
// with every subscription: an old one of our own must not replace a newer one
// that is still on its way up, so it is an echo each time.
func (e *echoes) take(now time.Time, topic string, payload []byte, retained bool) bool {
	sum := e.sum(topic, payload)
	e.mu.Lock()
	defer e.mu.Unlock()
	same := func(k echo) bool { return k.sum == sum }
	if retained {
		return slices.ContainsFunc(e.kept, same)
	}
	e.expire(now)
	i := slices.IndexFunc(e.live, same)
	if i < 0 {
		return false
	}
	copy(e.live[1:i+1], e.live[:i]) // nearly always the oldest
	e.live = e.live[1:]
	return true
}

// renew lets every echo be waited for anew: a connection was made.
func (e *echoes) renew(now time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for i := range e.live {
		e.live[i].at = now
	}
}

// expire forgets what is too old; mu is held.
func (e *echoes) expire(now time.Time) {
	n := 0
	for n < len(e.live) && now.Sub(e.live[n].at) > echoAge {
		n++
	}
	e.live = e.live[n:]
}

func (e *echoes) lost() uint64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.forgotten
}
