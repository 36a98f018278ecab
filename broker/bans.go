package broker

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// Bounds of bans.
const (
	maxBans = 1000
	maxBan  = 366 * 24 * time.Hour
)

// ErrBan says that a client cannot be banned as it was asked.
var ErrBan = errors.New("ban")

// Ban keeps a client id out until a time.
type Ban struct {
	ID    string
	Until time.Time
}

type bans struct {
	mu    sync.Mutex
	until map[string]time.Time
}

func newBans(initial []Ban) *bans {
	b := &bans{until: map[string]time.Time{}}
	for _, ban := range initial {
		b.until[ban.ID] = ban.Until
	}
	return b
}

// expire forgets bans that are over; mu is held.
func (b *bans) expire(now time.Time) {
	for id, until := range b.until {
		if !until.After(now) {
			delete(b.until, id)
		}
	}
}

// has reports whether a client is banned.
func (b *bans) has(id string, now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	until, ok := b.until[id]
	return ok && until.After(now)
}

// CheckBan returns nil if a client id can be banned until then.
func (b *Broker) CheckBan(ban Ban, now time.Time) error {
	if ban.ID == "" || !ban.Until.After(now) || ban.Until.After(now.Add(maxBan)) {
		return fmt.Errorf("%w: expected a client id and up to %d days, got %q for %v", ErrBan, maxBan/(24*time.Hour), ban.ID, ban.Until.Sub(now).Round(time.Second))
	}
	a := b.hook.bans
	a.mu.Lock()
	defer a.mu.Unlock()
	a.expire(now)
	if _, known := a.until[ban.ID]; !known && len(a.until) >= maxBans {
		return fmt.Errorf("%w: expected at most %d at a time", ErrBan, maxBans)
	}
	return nil
}

// Ban keeps a client out and disconnects it. It is forgotten when the broker
// ends; the error is ErrBan.
func (b *Broker) Ban(ban Ban) error {
	if err := b.CheckBan(ban, time.Now()); err != nil {
		return err
	}
	b.hook.bans.mu.Lock()
	b.hook.bans.until[ban.ID] = ban.Until
	b.hook.bans.mu.Unlock()
	if err := b.Disconnect(ban.ID); err != nil && !errors.Is(err, ErrNoClient) {
		return err
	}
	return nil
}

// Unban lets a client in again, and reports whether it was banned.
func (b *Broker) Unban(id string) bool {
	a := b.hook.bans
	a.mu.Lock()
	defer a.mu.Unlock()
	until, ok := a.until[id]
	delete(a.until, id)
	return ok && until.After(time.Now())
}

// Bans lists who is kept out, by name.
func (b *Broker) Bans() []Ban {
	a := b.hook.bans
	a.mu.Lock()
	defer a.mu.Unlock()
	a.expire(time.Now())
	out := make([]Ban, 0, len(a.until))
	for id, until := range a.until {
		out = append(out, Ban{id, until})
	}
	slices.SortFunc(out, func(x, y Ban) int { return cmp.Compare(x.ID, y.ID) })
	return out
}
