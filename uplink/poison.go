package uplink

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Isolation of a poison message: one in whose flight the connection dies.
// MQTT 3.1.1 has no reason codes, so this is all that can be seen.
const (
	// suspectAfter is the number of connections that have to die with a
	// message in flight before it is tried alone.
	suspectAfter = 3
	// deadAfter is the number of connections that have to die with a message
	// alone in flight, each after another message went through on it.
	deadAfter = 3
	// DefaultProbeGap keeps isolation below ten connects a minute: brokers ban
	// clients that connect more often.
	DefaultProbeGap = 6 * time.Second
)

// suspects counts in whose flight connections died. The link's Serve owns it.
type suspects struct {
	strikes map[uint64]int // by sequence number, of what is unacknowledged
	alone   int            // of the first unacknowledged one
	last    time.Time      // last connection that was made
	proofs  int            // canaries that went through before a suspect, ever
	failed  int            // those that did not, in a row
	passed  bool           // a message went through since the last that was found guilty
}

// died counts a lost connection against everything that was in flight on it.
func (s *suspects) died(inFlight []Entry) {
	next := map[uint64]int{}
	for _, e := range inFlight {
		next[e.Seq] = s.strikes[e.Seq] + 1
	}
	s.strikes = next
}

// suspect reports whether a message is to be tried alone.
func (s *suspects) suspect(e Entry) bool { return s.strikes[e.Seq] >= suspectAfter }

// cleared forgets a message that went through, or that is dead.
func (s *suspects) cleared(e Entry) {
	delete(s.strikes, e.Seq)
	s.alone = 0
}

// probe sends the suspects one at a time, each after a message of the link's
// own went through, so that a line that is merely bad convicts nobody. It
// returns nil when no suspect is left.
func (l *Link) probe(ctx context.Context, s session) error {
	for len(l.unacked) > 0 && l.suspects.suspect(l.unacked[0]) {
		canary, err := l.proveLine(ctx, s)
		if err != nil {
			return l.late(err)
		}
		e, began := l.unacked[0], time.Now()
		if err := l.sendAlone(ctx, s, e); err != nil {
			return l.convict(ctx, e, err, canary)
		}
		l.suspects.cleared(e)
		l.suspects.passed = true
		l.unacked = l.unacked[1:]
		l.queue.Settle(e, Delivered)
		l.acks.Add(time.Since(began))
	}
	return nil
}

// proveLine sees a PUBACK for a canary, and reports it. A centre that has
// never let one pass may forbid it; then any answer is enough, but proves less.
func (l *Link) proveLine(ctx context.Context, s session) (canary bool, err error) {
	p := &l.suspects
	timeout := l.ackTimeout()
	if l.opt.Canary == "" || (p.proofs == 0 && p.failed >= deadAfter) {
		return false, s.roundTrip(ctx, timeout)
	}
	if err := s.deliver(ctx, Message{Topic: l.opt.Canary, Payload: l.canary.next()}, timeout); err != nil {
		p.failed++
		return false, err
	}
	p.proofs++
	p.failed = 0
	return true, nil
}

func (l *Link) sendAlone(ctx context.Context, s session, e Entry) error {
	l.inFlight(1)
	defer l.inFlight(0)
	l.down.sending(e.Message)
	return s.deliver(ctx, e.Message, l.ackTimeout())
}

// convict counts a connection that died with e alone in flight, and moves e
// to the dead letters when that happened often enough. Without a canary's
// PUBACK the centre may refuse everything, or be slow: then only a connection
// that it closed counts, and only one message for each that went through.
func (l *Link) convict(ctx context.Context, e Entry, err error, canary bool) error {
	if ctx.Err() != nil {
		return err
	}
	if !canary && (!l.suspects.passed || errors.Is(err, errLate)) {
		return l.late(err)
	}
	l.suspects.alone++
	if l.suspects.alone < deadAfter {
		return err
	}
	l.opt.Logger.Warn("a message is poison to the centre and becomes a dead letter", "route", e.Route, "topic", e.Topic, "seq", e.Seq, "error", err)
	l.queue.Kill(e, fmt.Sprintf("%d connections died with this message alone in flight: %v", deadAfter, err))
	l.unacked = l.unacked[1:]
	l.suspects.strikes, l.suspects.alone, l.suspects.passed = nil, 0, false
	return err
}

// probeWait is how long isolation has to wait before it may connect again.
func (l *Link) probeWait() time.Duration {
	if len(l.unacked) == 0 || !l.suspects.suspect(l.unacked[0]) {
		return 0
	}
	return time.Until(l.suspects.last.Add(l.opt.ProbeGap))
}

// maxLevels is the deepest topic that is sent: EMQX takes 128 levels by
// default, Mosquitto 200.
const maxLevels = 128

// maxTopic is MQTT's own bound (3.1.1, section 1.5.3).
const maxTopic = 65535

// unsendable is why no centre would take a message, or empty.
func unsendable(m Message, maxPacket int64) string {
	switch size, levels := packetBytes(m), strings.Count(m.Topic, "/")+1; {
	case maxPacket > 0 && size > maxPacket:
		return fmt.Sprintf("oversize: a packet of %d bytes, the centre takes %d", size, maxPacket)
	case levels > maxLevels:
		return fmt.Sprintf("topic: %d levels, the most is %d", levels, maxLevels)
	case len(m.Topic) > maxTopic:
		return fmt.Sprintf("topic: %d bytes, the most is %d", len(m.Topic), maxTopic)
	}
	return ""
}

// packetBytes is the size of a message's PUBLISH packet, to within its
// variable header.
func packetBytes(m Message) int64 { return m.sent() + 9 }

// sift moves what no centre would take to the dead letters, and returns the
// rest.
func (l *Link) sift(entries []Entry) []Entry {
	kept, largest := entries[:0], l.tuning().MaxPacketBytes
	for _, e := range entries {
		if reason := unsendable(e.Message, largest); reason != "" {
			l.queue.Kill(e, reason)
			continue
		}
		kept = append(kept, e)
	}
	return kept
}

// expireUnacked drops what a former connection left and nobody wants any
// more. It may have arrived, but nothing says so.
func (l *Link) expireUnacked() {
	now := l.queue.opt.Now()
	l.unacked = slices.DeleteFunc(l.unacked, func(e Entry) bool {
		if !e.expired(now) {
			return false
		}
		l.suspects.cleared(e)
		l.queue.Settle(e, Expired)
		return true
	})
}
