package snapshots

import (
	"container/list"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// adopt puts files into the index.
func (s *Store) adopt(found []picture) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range found {
		p := &found[i]
		s.index[p.sum] = s.order.PushBack(p)
		s.stats.Pictures, s.stats.Bytes = s.stats.Pictures+1, s.stats.Bytes+p.bytes
	}
}

// bound removes the oldest pictures until there is room for so many more
// bytes, and those that are too old; writing is held.
func (s *Store) bound(more int64) error {
	oldest := s.opt.Now().Add(-s.opt.MaxAge)
	for e := s.order.Front(); e != nil; e = s.order.Front() {
		p := e.Value.(*picture)
		full, old := s.stats.Bytes+more > s.opt.MaxBytes, p.at.Before(oldest)
		if !full && !old {
			return nil
		}
		if err := os.Remove(s.path(p.sum)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("removing the oldest: %w", err)
		}
		s.forget(e)
		s.mu.Lock()
		if full {
			s.stats.Evicted++
		} else {
			s.stats.Expired++
		}
		s.mu.Unlock()
	}
	return nil
}

// forget takes a picture out of the index; writing is held.
func (s *Store) forget(e *list.Element) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.order.Remove(e).(*picture)
	delete(s.index, p.sum)
	s.stats.Pictures, s.stats.Bytes = s.stats.Pictures-1, s.stats.Bytes-p.bytes
}

// write makes a file that after a crash is there wholly or not at all.
func write(path string, b []byte, at time.Time) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".new-*")
	if err != nil {
		return err
	}
	name := f.Name()
	defer func() {
		if err != nil {
			_ = os.Remove(name) // the error matters more
		}
	}()
	_, err = f.Write(b)
	if err = errors.Join(err, f.Chmod(0o640), f.Sync(), f.Close()); err != nil {
		return err
	}
	if err = os.Chtimes(name, at, at); err != nil {
		return err
	}
	if err = os.Rename(name, path); err != nil {
		return err
	}
	name = path
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
