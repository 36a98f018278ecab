package main

import (
	"strings"
	"testing"
	"time"

	"outstation/uplink"
	"outstation/uplink/wire"
)

func TestHealthOfALinkThatStands(t *testing.T) {
	now := time.Now()
	for name, c := range map[string]struct {
		change      func(*uplink.LinkStats)
		state, want string
	}{
		"all right":          {func(*uplink.LinkStats) {}, wire.Healthy, "connected to tcp://b"},
		"certificate lasts":  {func(s *uplink.LinkStats) { s.CertExpires = now.Add(15 * 24 * time.Hour) }, wire.Healthy, "connected"},
		"certificate ends":   {func(s *uplink.LinkStats) { s.CertExpires = now.Add(13 * 24 * time.Hour) }, wire.Impaired, "expires on"},
		"certificate ended":  {func(s *uplink.LinkStats) { s.CertExpires = now.Add(-time.Hour) }, wire.Impaired, "has expired"},
		"torn files":         {func(s *uplink.LinkStats) { s.FilesError = "no PEM" }, wire.Impaired, "no PEM"},
		"refused commands":   {func(s *uplink.LinkStats) { s.Down.Error = "closing" }, wire.Impaired, "local broker does not take"},
		"no subscription":    {func(s *uplink.LinkStats) { s.Down.Denied = map[string]string{"cmd/#": "refused"} }, wire.Impaired, "subscribe to cmd/#"},
		"on a lesser broker": {func(s *uplink.LinkStats) { s.PreferredError = "no route" }, wire.Healthy, "no route"},
		"changing over": {func(s *uplink.LinkStats) {
			s.State, s.Reason = uplink.LinkConnecting, "the preferred is back"
		}, wire.Impaired, "the preferred is back"},
	} {
		f := facts{now: now, started: now.Add(-time.Hour)}
		f.link = uplink.LinkStats{State: uplink.LinkConnected, Broker: "tcp://b", Generation: 1}
		c.change(&f.link)
		if got := linkCheck(f); got.State != c.state || !strings.Contains(got.Detail, c.want) {
			t.Errorf("%s: got %s, %s; expected %s, %s", name, got.State, got.Detail, c.state, c.want)
		}
	}
}

// TestALostCentreIsSaidInPlainWords: since when, what becomes of events, for
// how long, and why.
func TestALostCentreIsSaidInPlainWords(t *testing.T) {
	now := time.Date(2026, 11, 21, 15, 30, 0, 0, time.UTC)
	down := uplink.LinkStats{State: uplink.LinkDown, Generation: 2, Since: now.Add(-87 * time.Minute), Reason: "connection refused"}
	first, days := down, down
	first.Generation, days.Since = 0, now.Add(-40*time.Hour)
	for want, f := range map[string]facts{
		"the centre cannot be reached since 14:03 UTC; events are kept here (records: 12), with room for about 30 hours at the present rate: connection refused": {
			link: down, queue: uplink.QueueStats{Queued: uplink.Tally{Records: 12}, Room: 30 * time.Hour}},
		"the centre cannot be reached since 14:03 UTC; events are kept here (records: 0): connection refused":                                {link: down},
		"the centre cannot be reached since 14:03 UTC; events are kept here (records: 0), but there is no room for more: connection refused": {link: down, queue: uplink.QueueStats{Refusing: uplink.ErrFull}},
		"the centre cannot be reached since 2026-11-19 23:30 UTC; events are kept here (records: 0): connection refused":                     {link: days},
		"the centre has not been reached yet; events are kept here (records: 0): connection refused":                                         {link: first},
	} {
		f.now, f.started = now, now.Add(-time.Hour)
		if got := linkCheck(f); got.State != wire.Unhealthy || got.Detail != want {
			t.Errorf("got %s, %s\nwant %s", got.State, got.Detail, want)
		}
	}
	for d, want := range map[time.Duration]string{
		59 * time.Second: "less than a minute", 20 * time.Minute: "about 20 minutes", 2 * time.Hour: "about 2 hours",
		72 * time.Hour: "about 3 days", 1 << 60: "years",
	} {
		if got := roughly(d); got != want {
			t.Errorf("%v: got %q, want %q", d, got, want)
		}
	}
}
