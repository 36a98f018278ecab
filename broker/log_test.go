package broker

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

// TestTheLogNamesWhoWasRefused has devices that do wrong, twice each.
func TestTheLogNamesWhoWasRefused(t *testing.T) {
	var log logText
	k := &disk{}
	b := startBroker(t, Options{
		Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})), Sink: k.sink, RefusalWait: 20 * time.Millisecond,
		Users: usersOf(t, "u:pw"), AllowAnonymous: true, Limits: Limits{MaxSubscriptions: 1},
		Validate: func(_ string, payload []byte) error {
			if string(payload) == "bad" {
				return errors.New("it is bad")
			}
			return nil
		},
	})
	k.refuse(errors.New("no room"))
	for range 2 {
		for _, name := range []string{"u", "other"} {
			if _, ack := connectWith(t, b, 5, as("dev", name, "wrong"), packets.Properties{}); ack.ReasonCode != 0x86 {
				t.Fatalf("got %#x, expected 0x86", ack.ReasonCode)
			}
		}
		for _, id := range []string{"one", "two"} {
			d := connect(t, b, id, 5, true)
			d.publish("r/a", 1, 1, "x")
			d.expect(packets.Puback)
			d.publish("a", 1, 2, "bad")
			d.expect(packets.Puback)
			d.reasons("a", "b")
			d.conn.Close()
		}
	}
	twice := connect(t, b, "twice", 5, true)
	twice.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Connect}, Connect: as("twice", "u", "secret")})
	twice.expect(packets.Disconnect)
	twice.expectEnd()
	eventually(t, "the server's words", func() bool { return strings.Contains(log.String(), "level=DEBUG msg=\"error processing packet\"") })
	text := log.String()
	for words, want := range map[string]int{
		`msg="a login failed" user=u `: 1, `msg="a login failed" user=other `: 1,
		`not acknowledged" client=one topic=r/a`: 1, `not acknowledged" client=two topic=r/a`: 1,
		`message was refused" client=one topic=a`: 1, `message was refused" client=two topic=a`: 1,
		`detail="it has 1 subscriptions`: 1, `msg=""`: 0, "secret": 0, "115 101 99 114 101 116": 0, // in letters, in bytes
	} {
		if got := strings.Count(text, words); got != want {
			t.Errorf("%s: %d times, expected %d in\n%s", words, got, want, text)
		}
	}
}

// TestWhatTheLogSaysIsBounded has more names than it tells.
func TestWhatTheLogSaysIsBounded(t *testing.T) {
	var r rarelyEach
	now, said := time.Unix(1_000_000, 0), 0
	for i := range 5 * maxWarned {
		if r.due(fmt.Sprint(i), now) {
			said++
		}
	}
	if said != maxWarned+1 || len(r.last) != maxWarned {
		t.Errorf("said %d of %d names, expected %d", said, len(r.last), maxWarned+1)
	}
	if now = now.Add(warnEvery); !r.due("0", now) || !r.due("new", now) || r.due("new", now) {
		t.Error("a minute later, each is said once again")
	}
}

// logText is a log that may be read while it is written.
type logText struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
