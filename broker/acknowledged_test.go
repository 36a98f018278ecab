package broker

import (
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

// TestTimeToAcknowledgeIncludesTheDisk holds one store back for a known time,
// and publishes what must not be counted: what stays local, what is of QoS 0,
// and what is refused.
func TestTimeToAcknowledgeIncludesTheDisk(t *testing.T) {
	var mu sync.Mutex
	var took []time.Duration
	k := &disk{}
	b := startBroker(t, Options{Sink: k.sink, Acknowledged: func(d time.Duration) {
		mu.Lock()
		took = append(took, d)
		mu.Unlock()
	}})
	d := connect(t, b, "dev", 5, true)
	d.publish("local/0", 1, 1, "")
	d.expectAcks(packets.Puback, 1)
	d.publish("r/0", 0, 0, "")
	d.publish("r/1", 1, 2, "")
	k.await(t, 1)
	published := time.Now()
	d.expectSilence() // takes a while
	held := time.Since(published)
	k.finish(t, 1, nil)
	d.expectAcks(packets.Puback, 2)
	d.publish("r/2", 2, 3, "")
	k.finish(t, 2, nil)
	d.expectAcks(packets.Pubrec, 3)
	d.publish("r/3", 1, 4, "")
	k.finish(t, 3, errors.New("the disk is broken"))
	if pk := d.expect(packets.Puback); pk.ReasonCode < 0x80 {
		t.Errorf("refused publish: got reason %#x, expected a failure", pk.ReasonCode)
	}

	mu.Lock()
	defer mu.Unlock()
	if len(took) != 2 {
		t.Fatalf("got %d times %v, expected those of the two publishes that were stored and acknowledged", len(took), took)
	}
	if took[0] < held {
		t.Errorf("got %v, expected at least the %v for which the disk was slow", took[0], held)
	}
}
