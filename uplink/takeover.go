package uplink

import (
	"errors"
	"fmt"
	"io"
	"syscall"
	"time"
)

const (
	// takeoverWithin is how soon a connection ends that another client takes
	// over: that client waits no longer than a minute to come back, by the
	// default back-off.
	takeoverWithin = 90 * time.Second
	// takeoverAfter is how many connections in a row have to end so.
	takeoverAfter = 3
)

// errTakeover is a guess: MQTT 3.1.1 lets the centre close the connection of a
// client whose identifier another one brings (section 3.1.4), and has no packet
// that would say so.
var errTakeover = errors.New("another client may use the same client id")

// closedByCentre reports whether the connection has ended, and the other side
// ended it.
func (s session) closedByCentre() bool {
	select {
	case <-s.ended:
		return errors.Is(*s.why, io.EOF) || errors.Is(*s.why, syscall.ECONNRESET)
	default:
		return false
	}
}

// ending counts connections in a row that the centre closed soon after they
// were made. A failure to connect is none of them, and does not end the row.
func (l *Link) ending(s session, lasted time.Duration) {
	soon := s.closedByCentre() && lasted < takeoverWithin
	l.set(func(st *LinkStats) {
		if st.SoonClosed++; !soon {
			st.SoonClosed = 0
		}
	})
}

// hinted adds to the loss of a connection what may be behind it.
func (l *Link) hinted(err error) error {
	if s := l.Stats(); s.SoonClosed >= takeoverAfter && !errors.Is(err, ErrCentre) {
		return fmt.Errorf("%w; %w (%s)", err, errTakeover, l.opt.ClientID)
	}
	return err
}

// TakenOver reports whether the connections to the centre end as they do where
// another client takes them over, again and again.
func (s LinkStats) TakenOver() bool { return s.SoonClosed >= takeoverAfter }
