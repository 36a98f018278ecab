package broker

import (
	"errors"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"
)

// TestASessionReadsNothingOfAClosedStore lets sessions read on while the
// store closes: its files are unmapped then.
func TestASessionReadsNothingOfAClosedStore(t *testing.T) {
	b := startBroker(t, Options{Dir: t.TempDir()})
	d, _ := persistent(t, b, "dev", 4)
	d.subscribeTo(packets.Subscription{Filter: "in", Qos: 1})
	d.conn.Close()
	eventually(t, "the device is gone", func() bool { return b.Stats().Clients == 0 })
	if err := b.Publish("in", []byte("x"), 1, false); err != nil {
		t.Fatal(err)
	}
	st := b.hook.sessions.store
	number := b.hook.sessions.get("dev").stored.number
	ended := make(chan error, 4)
	for range cap(ended) {
		go func() {
			for {
				if _, _, err := st.read(number, 0, 10, 1<<20); err != nil {
					ended <- err
					return
				}
			}
		}()
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	for range cap(ended) {
		if err := <-ended; !errors.Is(err, errClosing) {
			t.Errorf("got %v, expected %v", err, errClosing)
		}
	}
}
