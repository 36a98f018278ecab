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
