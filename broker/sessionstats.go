package broker

import (
	"cmp"
	"slices"
	"time"
)

// Sessions bounds the sessions of devices that come back. Zero values mean
// the defaults.
type Sessions struct {
	MaxMessages   int           // that one is owed
	MaxBytes      int64         // that one is owed
	MaxTotalBytes int64         // that all are owed together
	MaxExpiry     time.Duration // after which a device that stays away is forgotten; negative means never
}

// Defaults of Sessions and Options.
const (
	DefaultSessionMessages = 100_000
	DefaultSessionBytes    = 64 << 20
	DefaultTotalBytes      = 1 << 30
	DefaultSessionExpiry   = 7 * 24 * time.Hour
	DefaultMinFreeBytes    = 256 << 20
)

func (s *Sessions) setDefaults() {
	s.MaxMessages = cmp.Or(s.MaxMessages, DefaultSessionMessages)
	s.MaxBytes = cmp.Or(s.MaxBytes, DefaultSessionBytes)
	s.MaxTotalBytes = cmp.Or(s.MaxTotalBytes, DefaultTotalBytes)
	s.MaxExpiry = max(0, cmp.Or(s.MaxExpiry, DefaultSessionExpiry))
}

// SessionsStats is a snapshot of the sessions that outlive their connection.
type SessionsStats struct {
	Sessions        int   // whether their devices are connected or not
	Owed            int64 // messages of QoS 1 and 2 that they are owed
	OwedBytes       int64
	MaxTotalBytes   int64
	Dropped         int64            // the oldest messages, beyond a bound, since the start
	Losing          []SessionDropped // of which sessions, those with most of them first
	Muted           int              // subscriptions that can bring nothing under the rules of now
	MutedOf         string           // a client with one of them
	Expired         int64            // sessions whose devices stayed away for too long
	RetainedRefused int64            // messages beyond the bound of what is retained
	Damaged         int64            // records that cannot be read
	Quarantined     string           // where a store that could not be opened was moved to, or empty
	Refusing        error            // why nothing is stored now, or nil
	Failing         error            // the last commit's or read's error, or nil
}

// SessionDropped is a session that lost messages by its bound, or by that of
// all sessions.
type SessionDropped struct {
	ClientID string
	Dropped  int64
}

// maxLosing bounds SessionsStats.Losing.
const maxLosing = 10

// snapshotOf is SessionsStats and what belongs elsewhere.
type snapshotOf struct {
	SessionsStats
	retained int64
}

func (a *sessions) snapshot() (out snapshotOf) {
	count, _ := a.retain.count()
	out.retained = int64(count)
	if n, of := a.mutedNow(); n > 0 {
		out.Muted, out.MutedOf = n, of.id
	}
	out.RetainedRefused, out.Expired = a.retain.refused.Load(), a.stats.sessionsExpired.Load()
	for _, s := range a.all() {
		s.mu.Lock()
		if s.keep {
			out.Sessions++
		}
		if s.dropped > 0 {
			out.Losing = append(out.Losing, SessionDropped{s.id, s.dropped})
		}
		if s.stored == nil && s.keep {
			out.Owed += int64(len(s.waiting) + s.sent)
			out.OwedBytes += s.bytes
		}
		s.mu.Unlock()
	}
	slices.SortFunc(out.Losing, func(x, y SessionDropped) int { return cmp.Compare(y.Dropped, x.Dropped) })
	out.Losing = out.Losing[:min(len(out.Losing), maxLosing)]
	out.Dropped = a.stats.trimmed.Load()
	if st := a.store; st != nil {
		out.Owed, out.OwedBytes = st.owed.Load(), st.owedBytes.Load()
		out.MaxTotalBytes, out.Damaged, out.Quarantined = st.maxBytes, st.damaged.Load(), st.quarantined
		out.Refusing, out.Failing = st.state()
	}
	return out
}

// state says why nothing is stored, and the last error.
func (st *store) state() (refusing, failing error) {
	refusing = st.admit(false)
	st.mu.Lock()
	defer st.mu.Unlock()
	return refusing, cmp.Or(st.failing, st.unread)
}
