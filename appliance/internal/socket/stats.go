package socket

import (
	"errors"
	"time"
)

// Cause is why a line was refused.
type Cause int

// The causes.
const (
	CauseInvalid   Cause = iota // not a detection.v1 of this appliance
	CauseTooLong                // more than wire.MaxSocketLine
	CauseCutOff                 // its end did not come
	CauseNotStored              // the queue did not take it, or the disk failed
	causes
)

// String names the cause as metrics do.
func (c Cause) String() string {
	return [...]string{"invalid", "too_long", "cut_off", "not_stored"}[c]
}

// Stats is what the socket did since the start.
type Stats struct {
	Path           string
	Listening      bool
	Error          error // why nobody can connect, or nil
	Connections    int
	MaxConnections int

	Accepted           uint64         // lines that became durable
	Refused            [causes]uint64 // lines, by Cause
	ConnectionsRefused uint64         // beyond MaxConnections
	AnswersDropped     uint64         // that their senders did not read
	Inspected          uint64         // lines offered of cameras that the appliance inspects itself
	LastInspected      string         // such a camera
	LastRefusal        string         // of a line; empty where there was none
	LastRefusalAt      time.Time
}

// Lines counts those that were refused, for whatever cause.
func (s Stats) Lines() (refused uint64) {
	for _, n := range s.Refused {
		refused += n
	}
	return refused
}

// Stats may be called from any goroutine.
func (s *Server) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.stats
	out.Connections, out.AnswersDropped = len(s.conns), s.dropped.Load()
	return out
}

// inspected counts a line of a camera that two programs send events of: readers
// cannot tell them apart, and a seq of the line's own would disturb the camera's.
func (s *Server) inspected(camera string) {
	if s.opt.Inspected == nil || !s.opt.Inspected(camera) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stats.Inspected++
	s.stats.LastInspected = camera
	if !s.told[camera] {
		s.told[camera] = true
		s.opt.Logger.Warn("two programs send events of one camera: a line of the local socket has the camera_id of a camera that the appliance inspects; give the program an id of its own", "camera_id", camera)
	}
}

func (s *Server) refused(cause Cause, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stats.Refused[cause]++
	s.stats.LastRefusal, s.stats.LastRefusalAt = reason(err), time.Now()
}

// stored counts the outcome of a line that was offered.
func (s *Server) stored(err error) {
	switch {
	case errors.Is(err, ErrInvalid):
		s.refused(CauseInvalid, err)
	case err != nil:
		s.refused(CauseNotStored, err)
	default:
		s.mu.Lock()
		s.stats.Accepted++
		s.mu.Unlock()
	}
}
