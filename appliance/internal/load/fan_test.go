package load

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"outstation/uplink/mosquittotest"
)

func startMosquitto(t *testing.T, listen string) string {
	t.Helper()
	s, err := mosquittotest.New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	s.Listen += listen
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	})
	return s.Address()
}

// TestFan runs both shapes, as fast as it goes and at a rate.
func TestFan(t *testing.T) {
	address := startMosquitto(t, "max_inflight_messages 0\n")
	for _, f := range []Fan{
		{Publishers: 5, Subscribers: 1, QoS: 0, Size: 256, Messages: 40, Batch: 10},
		{Publishers: 1, Subscribers: 5, QoS: 1, Size: 256, Messages: 45, Batch: 10},
		{Publishers: 2, Subscribers: 3, QoS: 1, Size: 16, Messages: 50, Batch: 10, Rate: 1000},
	} {
		f.Address = address
		r, err := f.Run(t.Context(), 10*time.Second)
		if err != nil {
			t.Fatalf("%+v: %v", f, err)
		}
		want := 0
		if f.Rate > 0 {
			want = f.Publishers * f.Subscribers * f.Messages
			if least := time.Duration(f.Publishers*f.Messages-f.Rate/100) * time.Second / time.Duration(f.Rate); r.Took < least {
				t.Errorf("took %v, expected %v at its rate", r.Took, least)
			}
		}
		if len(r.Latency) != want || r.Took <= 0 {
			t.Errorf("got %d latencies in %v, expected %d", len(r.Latency), r.Took, want)
		}
		for _, l := range r.Latency {
			if l <= 0 || l > r.Took {
				t.Fatalf("latency: got %v in a run of %v", l, r.Took)
			}
		}
	}
}

// TestFanIsVoidWithoutEveryMessage has a broker that drops what one of two
// publishers sends.
func TestFanIsVoidWithoutEveryMessage(t *testing.T) {
	rules := filepath.Join(t.TempDir(), "acl")
	if err := os.WriteFile(rules, []byte("pattern read local/#\npattern write local/fan/0\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	f := Fan{Address: startMosquitto(t, "acl_file "+rules+"\n"), Publishers: 2, Subscribers: 1, Size: 256, Messages: 60, Batch: 10}
	for _, f.Rate = range []int{0, 1000} {
		if _, err := f.Run(t.Context(), time.Second); err == nil {
			t.Errorf("rate %d: got no error", f.Rate)
		}
	}
}
