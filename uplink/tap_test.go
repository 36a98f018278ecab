package uplink

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	broker "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/listeners"
)

// tapped collects what a Tap takes.
type tapped struct {
	mu   sync.Mutex
	seen map[string]int // by payload
}

func (c *tapped) take(m Tapped) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen[m.Topic+" "+string(m.Payload)]++
}

func (c *tapped) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.seen)
}

// TestTapMissesNothing restarts the centre while a Tap reads: what is
// published before the Tap is back arrives nonetheless.
func TestTapMissesNothing(t *testing.T) {
	s := startMosquitto(t)
	c := &tapped{seen: map[string]int{}}
	centre := Centre{Brokers: []string{s.URL()}}
	tap := &Tap{Centre: centre, ClientID: "reader", Topics: []string{"a/x", "a/y"}, Take: c.take,
		Backoff: Backoff{Floor: 300 * time.Millisecond, Ceiling: 400 * time.Millisecond, Stable: time.Minute}, Logger: slog.New(slog.DiscardHandler)}
	if err := tap.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var done sync.WaitGroup
	defer done.Wait()
	defer stop()
	done.Go(func() { tap.Serve(ctx) })
	say := func(topic, payload string, retain bool) {
		t.Helper()
		d, _, _ := linkDefaults(centre, Backoff{}, nil)
		p, err := d.connect(t.Context(), dial{clientID: "writer", clean: true})
		if err == nil {
			err = p.deliver(t.Context(), Message{Topic: topic, Payload: []byte(payload), Retain: retain}, 5*time.Second)
			p.client.Disconnect(10)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	say("a/x", "1", true)
	say("a/z", "not asked for", false)
	eventually(t, "the first message", func() bool { return c.count() == 1 })
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		say("a/y", fmt.Sprint(i), false)
	}
	eventually(t, "the others", func() bool { return c.count() == 21 })

	// Afterwards nothing is left at the centre.
	again := &tapped{seen: map[string]int{}}
	if err := centre.Sweep(t.Context(), []string{"writer", "reader"}, []string{"a/x"}); err != nil {
		t.Fatal(err)
	}
	other := &Tap{Centre: centre, ClientID: "other", Topics: []string{"a/x", "b"}, Take: again.take}
	if err := other.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	done.Go(func() { other.Serve(ctx) })
	say("b", "the end", false)
	eventually(t, "a message", func() bool { return again.count() > 0 })
	if again.count() != 1 || again.seen["b the end"] != 1 {
		t.Errorf("left at the centre: %v", again.seen)
	}
}

// TestTapSaysWhatIsRefused needs a broker that answers 0x80.
func TestTapSaysWhatIsRefused(t *testing.T) {
	ln := listeners.NewTCP(listeners.Config{ID: "tcp", Address: "127.0.0.1:0"})
	server := broker.New(&broker.Options{Logger: slog.New(slog.DiscardHandler)})
	if err := errors.Join(server.AddHook(&denying{prefix: "vision/"}, nil), server.AddListener(ln), server.Serve()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	tap := &Tap{Centre: Centre{Brokers: []string{"tcp://" + ln.Address()}}, ClientID: "reader", Topics: []string{"vision/x"}}
	if err := tap.Open(t.Context()); !errors.Is(err, ErrTapRefused) || !strings.Contains(err.Error(), "vision/x") {
		t.Errorf("got %v, expected ErrTapRefused that names the topic", err)
	}
}
