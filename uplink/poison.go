package uplink

import (
	"context"
	"errors"
	"fmt"
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

// errProbe ends a generation in which a suspect was sent alone.
var errProbe = errors.New("connection lost with one message in flight")

// suspects counts in whose flight connections died. The link's Serve owns it.
type suspects struct {
	strikes map[uint64]int // by sequence number, of what is unacknowledged
	alone   int            // of the first unacknowledged one
	last    time.Time      // last connection that was made
	proofs  int            // canaries that went through before a suspect, ever
	failed  int            // those that did not, in a row
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
		if err := l.proveLine(ctx, s); err != nil {
			return err
		}
		e := l.unacked[0]
		if err := l.sendAlone(ctx, s, e); err != nil {
			return l.convict(ctx, e, err)
		}
		l.suspects.cleared(e)
		l.unacked = l.unacked[1:]
		l.queue.Settle(e, Delivered)
		l.acks.add(0)
	}
	return nil
}

// proveLine sees a PUBACK for a canary. A centre that has never let one pass
// may forbid it; then the proof is done without.
func (l *Link) proveLine(ctx context.Context, s session) error {
	p := &l.suspects
	if l.opt.Canary == "" || (p.proofs == 0 && p.failed >= deadAfter) {
		return nil
	}
	err := l.await(ctx, s, Message{Topic: l.opt.Canary, QoS: 1, Payload: canaryPayload(time.Now())})
	if err != nil {
		p.failed++
		return err
	}
	p.proofs++
	p.failed = 0
	return nil
}

func (l *Link) sendAlone(ctx context.Context, s session, e Entry) error {
	l.inFlight(1)
	defer l.inFlight(0)
	return l.await(ctx, s, e.Message)
}

// await publishes one message and waits for its PUBACK.
func (l *Link) await(ctx context.Context, s session, m Message) error {
	m.QoS = 1
	token, err := s.publish(ctx, m)
	if err != nil {
		return fmt.Errorf("%w: %w", errProbe, err)
	}
	timer := time.NewTimer(l.opt.AckTimeout)
	defer timer.Stop()
	select {
	case <-token.Done():
		return token.Error()
	case err := <-s.lost:
		return fmt.Errorf("%w: %w", errProbe, err)
	case <-timer.C:
		return fmt.Errorf("%w: no PUBACK within %v", errProbe, l.opt.AckTimeout)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// convict counts a connection that died with e alone in flight, and moves e
// to the dead letters when that happened often enough.
func (l *Link) convict(ctx context.Context, e Entry, err error) error {
	if ctx.Err() != nil {
		return err
	}
	l.suspects.alone++
	if l.suspects.alone < deadAfter {
		return err
	}
	l.opt.Logger.Warn("a message is poison to the centre and becomes a dead letter", "route", e.Route, "topic", e.Topic, "seq", e.Seq, "error", err)
	l.queue.Kill(e, fmt.Sprintf("%d connections died with this message alone in flight: %v", deadAfter, err))
	l.unacked = l.unacked[1:]
	l.suspects.strikes, l.suspects.alone = nil, 0
	return err
}

// probeWait is how long isolation has to wait before it may connect again.
func (l *Link) probeWait() time.Duration {
	if len(l.unacked) == 0 || !l.suspects.suspect(l.unacked[0]) {
		return 0
	}
	return time.Until(l.suspects.last.Add(l.opt.ProbeGap))
}

// oversize moves what no centre would take to the dead letters, and returns
// the rest.
func (l *Link) oversize(entries []Entry) []Entry {
	kept := entries[:0]
	for _, e := range entries {
		if l.opt.MaxMessageBytes > 0 && e.bytes() > l.opt.MaxMessageBytes {
			l.queue.Kill(e, fmt.Sprintf("oversize: %d bytes of topic and payload, the centre takes %d", e.bytes(), l.opt.MaxMessageBytes))
			continue
		}
		kept = append(kept, e)
	}
	return kept
}
