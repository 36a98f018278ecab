package uplink

// tailBytes bounds the payloads that one lane keeps in memory for a reader
// that has caught up.
const tailBytes = 2 << 20

// lane is the state of one priority. The queue's mutex guards it.
type lane struct {
	laneMark
	last uint64 // newest committed sequence number
	pos  uint64 // newest that Next has handed out

	// issued are handed out and unsettled or waiting for an older one, in
	// order; the watermark is the newest settled one without an older
	// unsettled one.
	issued  []uint64
	settled map[uint64]bool

	// tail are the newest committed entries, all those after tailFrom.
	tail     []Entry
	tailFrom uint64
	tailSize int64
}

// committed adds entries that are now durable to the tail.
func (l *lane) committed(entries []Entry) {
	for _, e := range entries {
		if l.tailSize > tailBytes {
			l.tail, l.tailSize = nil, 0
		}
		if len(l.tail) == 0 {
			l.tailFrom = l.last
		}
		l.tail = append(l.tail, e)
		l.tailSize += e.bytes()
		l.last = e.Seq
	}
}

// fromTail hands out up to n entries if the reader has reached the tail.
func (l *lane) fromTail(n int) []Entry {
	for len(l.tail) > 0 && l.tail[0].Seq <= l.pos {
		l.cut(1)
	}
	if l.pos < l.tailFrom {
		return nil
	}
	n = min(n, len(l.tail))
	out := append([]Entry(nil), l.tail[:n]...)
	l.cut(n)
	return out
}

func (l *lane) cut(n int) {
	for _, e := range l.tail[:n] {
		l.tailSize -= e.bytes()
		l.tailFrom = e.Seq
	}
	clear(l.tail[:n])
	l.tail = l.tail[n:]
}

// issue notes that entries were handed out.
func (l *lane) issue(entries []Entry) {
	for _, e := range entries {
		l.issued = append(l.issued, e.Seq)
		l.pos = e.Seq
	}
}

// settle notes that a record has left and returns the watermark that follows.
func (l *lane) settle(seq uint64) uint64 {
	if l.settled == nil {
		l.settled = map[uint64]bool{}
	}
	l.settled[seq] = true
	mark := l.watermark
	for len(l.issued) > 0 && l.settled[l.issued[0]] {
		mark = l.issued[0]
		delete(l.settled, mark)
		l.issued = l.issued[1:]
	}
	return mark
}
