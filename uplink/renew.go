package uplink

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// errRenew ends a good connection in order, to make a better one.
var errRenew = errors.New("the connection is made anew")

// renewal watches for reasons to make a good connection anew: the files that
// it was made with changed, or a preferred broker is back.
type renewal struct {
	centre  Centre
	session session
	probe   string // client id of the connections that try preferred brokers

	// told is called after every look with what stands against it, or nil.
	filesTold, probeTold func(error)
}

// watch returns why the connection is to be made anew, as an errRenew, or nil
// when ctx ends.
func (r renewal) watch(ctx context.Context) error {
	var files, back <-chan time.Time
	if r.centre.hasFiles() {
		tick := time.NewTicker(r.centre.CheckFiles)
		defer tick.Stop()
		files = tick.C
	}
	preferred := r.centre
	preferred.Brokers = r.centre.Brokers[:max(0, slices.Index(r.centre.Brokers, r.session.broker))]
	if len(preferred.Brokers) > 0 && r.centre.FailBack > 0 {
		// A thousand appliances that a broker left at once must not all look
		// for it at once.
		tick := time.NewTicker(r.centre.FailBack/2 + rand.N(r.centre.FailBack))
		defer tick.Stop()
		back = tick.C
	}
	seen := r.session.files.sum
	for {
		select {
		case <-files:
			now, err := r.centre.readFiles()
			r.filesTold(err)
			if err != nil {
				continue
			}
			settled := now.sum == seen // else they may still be written
			seen = now.sum
			if !settled || now.sum == r.session.files.sum {
				continue
			}
			return fmt.Errorf("%w: the files with the credentials changed", errRenew)
		case <-back:
			broker, err := preferred.try(ctx, r.probe)
			r.probeTold(err)
			if err == nil {
				return fmt.Errorf("%w: %s is back", errRenew, broker)
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// try makes a connection and ends it at once.
func (c Centre) try(ctx context.Context, clientID string) (broker string, err error) {
	s, err := c.connect(ctx, dial{clientID: clientID, clean: true})
	if err != nil {
		return "", err
	}
	s.client.Disconnect(250)
	return s.broker, nil
}

// probeClient is the client id of the connections that try preferred brokers.
// A camera id cannot begin with an underscore, so it is no presence's.
func probeClient(clientID string) string { return clientID + "._probe" }

// beside runs what goes on beside the records while a connection stands: the
// subscriptions, and the reasons to make it anew. The context ends with such
// a reason; end ends it all and waits.
func (l *Link) beside(ctx context.Context, s session, behind <-chan struct{}) (_ context.Context, end func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	var all sync.WaitGroup
	all.Go(func() { l.down.listen(ctx, s, l.tuning().AckTimeout) })
	all.Go(func() {
		if err := l.renewal(s).watch(ctx); err != nil {
			cancel(err)
		}
	})
	all.Go(func() {
		select {
		case <-behind:
			cancel(fmt.Errorf("%w: more came down at once than there was room for", errRenew))
		case <-ctx.Done():
		}
	})
	return ctx, func() {
		cancel(nil)
		all.Wait()
	}
}

func (l *Link) renewal(s session) renewal {
	return renewal{
		centre: l.opt.Centre, session: s, probe: probeClient(l.opt.ClientID),
		filesTold: func(err error) { l.set(func(st *LinkStats) { st.FilesError = text(err) }) },
		probeTold: func(err error) { l.set(func(st *LinkStats) { st.PreferredError = text(err) }) },
	}
}

// text is err in words, or nothing.
func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// changesOver says that the next connection follows a good one.
func (l *Link) changesOver(wait time.Duration, reason error) {
	l.opt.Logger.Info("link to the centre changes over", "reason", reason)
	l.set(func(s *LinkStats) {
		s.State, s.Reason, s.InFlight = LinkConnecting, reason.Error(), 0
		s.NextAttempt, s.Backoff = time.Now().Add(wait), wait
	})
}

// ended is why a connection ended: what ended its context, or else err.
func ended(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		return cause
	}
	return err
}
