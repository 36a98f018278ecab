package broker

// belongs reports whether a session is that of who connects: its messages are
// for nobody else. One of a program without a name, which has left, is for who
// comes next with its client id.
func (s *session) belongs(who identity) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.who.kind == nobody || s.who.user == who.user || (s.who.kind == anonymous && !s.present())
}

// isAway reports whether the device is not connected.
func (s *session) isAway() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.present()
}

// adopt says whose the session is, and what it wants said when its connection
// is lost, or nil.
func (s *session) adopt(who identity, w *will) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.who, s.said = who, w
}

// disown leaves the session to whoever comes for it.
func (s *session) disown() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.who = identity{}
}

// owner is whose the session is.
func (s *session) owner() identity {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.who
}

// connection is the gate of the session's connection, or nil.
func (s *session) connection() *gate {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.gate
}

// withhold gives up a message that may not be read any more; mu is held.
func (s *session) withhold(d *delivery) {
	s.forget(d)
	s.stats.withheld.Add(1)
}
