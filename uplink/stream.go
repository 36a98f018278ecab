package uplink

// Bounds of what one stream keeps in memory.
const (
	tailBytes  = 2 << 20   // of a reader that has caught up
	aheadBytes = 256 << 10 // read from disk, not handed out
	aheadLen   = 256
	// entryOverhead is what an entry takes beside its bytes.
	entryOverhead = 256
)

// stream is a FIFO of records. The queue's mutex guards it, and pos and ahead
// besides belong to whoever holds the queue's reading lock.
type stream struct {
	id    streamID
	route string
	mark
	siblings []*stream // the others of its route
	last     uint64    // newest committed sequence number
	pos      uint64    // newest that was read into ahead, or skipped
	waiting  int       // records that wait for their commit

	// before is a sequence number up to which everything has left, beside the
	// watermark: what was coalesced does not move that, and a look at the
	// oldest record must not walk all of it every time.
	before uint64

	ahead []Entry // read, not handed out

	// issued are handed out, unsettled or waiting for an older one, in order;
	// the watermark is the newest settled one without an older unsettled one.
	issued  []uint64
	settled map[uint64]bool

	// tail are the newest committed entries, all those after tailFrom.
	tail     []Entry
	tailFrom uint64
	tailSize int64

	// latest are the newest entries of each topic of a route that keeps only
	// those, as long as they are not handed out; gone are those that were
	// replaced and have not been passed by the reader.
	latest map[string]kept
	gone   map[uint64]bool
}

// kept is an entry that a newer one of its topic may replace.
type kept struct {
	seq  uint64
	size int64
}

// committed adds an entry that is now durable to the tail.
func (s *stream) committed(e Entry) {
	if s.tailSize > tailBytes {
		s.tail, s.tailSize = nil, 0
	}
	if len(s.tail) == 0 {
		s.tailFrom = s.last
	}
	s.tail = append(s.tail, e)
	s.tailSize += e.bytes() + entryOverhead
	s.last = e.Seq
}

// inserted forgets the tail after an entry became durable that is older than
// the newest: the reader has to find it in the store.
func (s *stream) inserted() {
	s.tail, s.tailSize, s.tailFrom = nil, 0, s.last
}

// refill drops what was replaced from the head of ahead, and moves entries
// from the tail into an empty ahead if the reader has reached it. It reports
// whether ahead has an entry.
func (s *stream) refill() bool {
	for {
		for len(s.ahead) > 0 && s.gone[s.ahead[0].Seq] {
			delete(s.gone, s.ahead[0].Seq)
			s.ahead = s.ahead[1:]
		}
		if len(s.ahead) > 0 {
			return true
		}
		for len(s.tail) > 0 && s.tail[0].Seq <= s.pos {
			s.cut(1)
		}
		if len(s.tail) == 0 || s.pos < s.tailFrom {
			s.ahead = nil
			return false
		}
		n := min(aheadLen, len(s.tail))
		s.read(s.tail[:n])
		s.cut(n)
	}
}

func (s *stream) cut(n int) {
	for _, e := range s.tail[:n] {
		s.tailSize -= e.bytes() + entryOverhead
		s.tailFrom = e.Seq
	}
	clear(s.tail[:n])
	s.tail = s.tail[n:]
}

// read takes entries over into ahead.
func (s *stream) read(entries []Entry) {
	s.ahead = append(s.ahead, entries...)
	if n := len(entries); n > 0 {
		s.pos = entries[n-1].Seq
	}
}

// issue hands out the oldest entry.
func (s *stream) issue() Entry {
	e := s.ahead[0]
	s.ahead[0] = Entry{}
	s.ahead = s.ahead[1:]
	s.issued = append(s.issued, e.Seq)
	if k, ok := s.latest[e.Topic]; ok && k.seq == e.Seq {
		delete(s.latest, e.Topic)
	}
	return e
}

// settle notes that an issued record has left and returns the watermark that
// follows.
func (s *stream) settle(seq uint64) uint64 {
	if s.settled == nil {
		s.settled = map[uint64]bool{}
	}
	s.settled[seq] = true
	mark := s.watermark
	for len(s.issued) > 0 && s.settled[s.issued[0]] {
		mark = s.issued[0]
		delete(s.settled, mark)
		s.issued = s.issued[1:]
	}
	return mark
}

// replace notes that e is the newest of its topic. If drop is set it returns
// the entry that e replaces, unless that was handed out.
func (s *stream) replace(e Entry, drop bool) (old kept, ok bool) {
	if s.latest == nil {
		s.latest, s.gone = map[string]kept{}, map[uint64]bool{}
	}
	old, ok = s.latest[e.Topic]
	s.latest[e.Topic] = kept{e.Seq, e.bytes()}
	if !ok || !drop {
		return old, false
	}
	s.gone[old.seq] = true
	return old, true
}

// skipTo notes that nothing more is to be read up to seq. What was replaced
// and is not in ahead is no longer remembered.
func (s *stream) skipTo(seq uint64) {
	from := s.pos
	s.pos = max(s.pos, seq)
	for g := range s.gone {
		if g > from && g <= s.pos {
			delete(s.gone, g)
		}
	}
}
