package uplink

import "testing"

func TestLinkStatsCountConnectionsAndPubacks(t *testing.T) {
	s := startMosquitto(t)
	q := openTestQueue(t, Options{})
	l := startLink(t, q, LinkOptions{Centre: Centre{Brokers: []string{s.URL()}}, ClientID: "dev-1"})
	for round := range uint64(3) {
		eventually(t, "a connection", func() bool { return l.Stats().State == LinkConnected })
		if got := l.Stats(); got.Generation != round+1 || got.Backoff != 0 || !got.NextAttempt.IsZero() {
			t.Errorf("round %d: got %+v, expected connection %d and no back-off", round, got, round+1)
		}
		for i := range 5 {
			store(t, q, testMessage(5, i))
		}
		want := 5 * (round + 1)
		eventually(t, "PUBACKs", func() bool { return q.Depth().Records == 0 && l.Stats().PubackTimes.Count >= want })
		if got := l.Stats(); got.PubackTimes.Count != want || got.Delivered != want || got.PubackTimes.Sum <= 0 || got.PubackP50 <= 0 {
			t.Errorf("round %d: got %d delivered and %+v, expected %d", round, got.Delivered, got.PubackTimes, want)
		}
		if err := s.Stop(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the loss", func() bool { return l.Stats().State == LinkDown })
		if got := l.Stats(); got.Backoff < quickBackoff.Floor || got.Backoff > quickBackoff.Ceiling || got.NextAttempt.IsZero() {
			t.Errorf("round %d: got the back-off %v until %v, expected %v to %v", round, got.Backoff, got.NextAttempt, quickBackoff.Floor, quickBackoff.Ceiling)
		}
		if err := s.Start(); err != nil {
			t.Fatal(err)
		}
	}
}
