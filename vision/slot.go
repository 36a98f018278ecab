package vision

import "sync"

// slot holds at most one frame: the newest. It is safe for concurrent use.
type slot struct {
	mu     sync.Mutex
	frame  Frame
	full   bool
	closed bool
}

// put takes ownership of f. It returns how many frames it closed unseen: the
// one that f replaced, or f itself once the slot is closed.
func (s *slot) put(f Frame) (dropped int) {
	s.mu.Lock()
	old, hadOld := s.frame, s.full
	if s.closed {
		old, hadOld = f, true
	} else {
		s.frame, s.full = f, true
	}
	s.mu.Unlock()
	if hadOld {
		old.Image.Close()
		return 1
	}
	return 0
}

// take hands the frame, if there is one, to the caller.
func (s *slot) take() (Frame, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f, ok := s.frame, s.full
	s.frame, s.full = Frame{}, false
	return f, ok
}

// close closes the frame that is left, and every later one. It returns how
// many it closed.
func (s *slot) close() (dropped int) {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	if f, ok := s.take(); ok {
		f.Image.Close()
		return 1
	}
	return 0
}
