package uplink

import (
	"errors"
	"strings"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// steal connects with the link's client id, which ends its connection.
func steal(t *testing.T, url, id string) {
	t.Helper()
	c := mqtt.NewClient(mqtt.NewClientOptions().AddBroker(url).SetClientID(id).SetAutoReconnect(false))
	if tok := c.Connect(); tok.Wait() && tok.Error() != nil {
		t.Fatal(tok.Error())
	}
	c.Disconnect(10)
}

func TestTakeoverIsHinted(t *testing.T) {
	s := startMosquitto(t)
	l := startLink(t, openTestQueue(t, Options{}), LinkOptions{Centre: Centre{Brokers: []string{s.URL()}}})
	deadline := time.Now().Add(20 * time.Second)
	for i := uint64(1); i <= takeoverAfter; i++ {
		for st := l.Stats(); st.State != LinkConnected || st.Generation < i; st = l.Stats() {
			if time.Now().After(deadline) {
				t.Fatalf("not connected for the %d. time: %+v", i, st)
			}
			if st.TakenOver() {
				t.Fatalf("taken over after %d connections", i-1)
			}
			time.Sleep(5 * time.Millisecond)
		}
		steal(t, s.URL(), "dev-1")
	}
	for !l.Stats().TakenOver() {
		if time.Now().After(deadline) {
			t.Fatalf("got %+v", l.Stats())
		}
		time.Sleep(5 * time.Millisecond)
	}
	if err := l.hinted(errLost); !strings.Contains(err.Error(), "another client may use the same client id (dev-1)") {
		t.Errorf("got %q", err)
	}
	if err := l.hinted(ErrCentre); errors.Is(err, errTakeover) {
		t.Errorf("a centre that is not reached is hinted at: %q", err)
	}
}

func TestTakeoverIsOverWhenAConnectionStands(t *testing.T) {
	l := NewLink(openTestQueue(t, Options{}), LinkOptions{})
	for _, stood := range []time.Duration{0, takeoverWithin} {
		l.stats.State, l.stats.Since, l.stats.SoonClosed = LinkConnected, time.Now().Add(-stood), takeoverAfter
		if got, want := l.Stats().TakenOver(), stood == 0; got != want {
			t.Errorf("after %v: got %v, expected %v", stood, got, want)
		}
	}
}
