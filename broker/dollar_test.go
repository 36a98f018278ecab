package broker

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"
)

// TestTopicsWithADollar publishes where the server itself would not answer, and
// where it does.
func TestTopicsWithADollar(t *testing.T) {
	var log logText
	b := startBroker(t, Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	all := connect(t, b, "all", 5, true)
	all.subscribeTo(packets.Subscription{Filter: "#", Qos: 1}, packets.Subscription{Filter: "$CONTROL/#", Qos: 1})
	d := connect(t, b, "d", 5, true)
	refused := map[string]byte{"$SYS": 0x87, "$SYSTEM/x": 0x87, "$sys/x": 0x87, "$share": 0x90, "$share/g": 0x90, "$SHARE/g/x": 0x90}
	for topic, want := range refused {
		for qos, kind := range map[byte]byte{1: packets.Puback, 2: packets.Pubrec} {
			d.publish(topic, qos, 3, "x")
			if ack := d.expect(kind); ack.ReasonCode != want {
				t.Errorf("%s, QoS %d: got %#x, expected %#x", topic, qos, ack.ReasonCode, want)
			}
		}
		old := connect(t, b, "old", 4, true)
		old.publish(topic, 1, 3, "x")
		old.expectEnd()
	}
	willing := packets.ConnectParams{ClientIdentifier: "willing", Clean: true, WillFlag: true, WillTopic: "$SYS/broker/uptime", WillPayload: []byte("x")}
	if _, ack := connectWith(t, b, 5, willing, packets.Properties{}); ack.ReasonCode != 0x87 {
		t.Errorf("a will: got %#x, expected 0x87", ack.ReasonCode)
	}
	if n := b.Stats().Denied; n != int64(3*len(refused)+1) {
		t.Errorf("got %d denied, expected %d", n, 3*len(refused)+1)
	}
	for i, topic := range []string{"$CONTROL/x", "$queue/x"} {
		d.say(topic, fmt.Sprint(i))
	}
	all.expectPayloads("0")
	all.expectSilence()
	if n := strings.Count(log.String(), "a device was refused"); n != 3 {
		t.Errorf("said %d times in the log, expected once of each of 3 clients:\n%s", n, log.String())
	}
}
