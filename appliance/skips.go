package main

import (
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"

	"outstation/uplink/wire"
)

// skip counts the files of a camera's directory that were no pictures.
type skip struct {
	files uint64
	last  string // the name and what is wrong with it
}

// String says it in a few words; it is empty for a camera that skipped nothing.
func (s skip) String() string {
	if s.files == 0 {
		return ""
	}
	return fmt.Sprintf("files skipped: %d, the last: %s", s.files, s.last)
}

// skips are those of all cameras. It is safe for concurrent use.
type skips struct {
	mu sync.Mutex
	by map[string]skip
}

// of returns what a camera's source tells. A file is logged once in a row.
func (s *skips) of(camera string, log *slog.Logger) func(file string, err error) {
	return func(file string, err error) {
		last := fmt.Sprintf("%s: %v", filepath.Base(file), err)
		s.mu.Lock()
		if s.by == nil {
			s.by = map[string]skip{}
		}
		old := s.by[camera]
		s.by[camera] = skip{old.files + 1, last}
		s.mu.Unlock()
		if old.last != last {
			log.Warn("a file is no picture and was skipped", "camera", camera, "file", file, "error", err)
		}
	}
}

// all is a copy.
func (s *skips) all() map[string]skip {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make(map[string]skip, len(s.by))
	for camera, k := range s.by {
		out[camera] = k
	}
	return out
}

// withSkips adds to a camera's check what was skipped: it is no fault of the
// camera's, and what put the files there may have been meant.
func withSkips(c wire.Check, s skip) wire.Check {
	if said := s.String(); said != "" {
		c.Detail += "; " + said
	}
	return c
}
