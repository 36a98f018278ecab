package broker

import (
	"log/slog"
	"sync"
	"testing"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// TestGarbageEndsOneConnection sends packets that are cut short, some of
// which the server cannot read without a panic.
func TestGarbageEndsOneConnection(t *testing.T) {
	b := startBroker(t, Options{})
	watcher := connect(t, b, "watcher", 5, true)
	watcher.subscribeTo(packets.Subscription{Filter: "will", Qos: 1})
	bodies := map[byte][]byte{
		packets.Publish<<4 | 2:     {0, 1, 'a', 0, 1, 0, 'x'},
		packets.Subscribe<<4 | 2:   {0, 1, 0, 0, 1, 'a', 1},
		packets.Unsubscribe<<4 | 2: {0, 1, 0, 0, 1, 'a'},
		packets.Puback << 4:        {0, 1, 0, 3, 0x1f, 0, 1},
		packets.Pubrec << 4:        {0, 1, 0, 3, 0x1f, 0, 1},
		packets.Pubrel<<4 | 2:      {0, 1, 0, 3, 0x1f, 0, 1},
		packets.Pubcomp << 4:       {0, 1, 0, 3, 0x1f, 0, 1},
		packets.Disconnect << 4:    {0x80, 5, 0x11, 0, 0, 0, 1},
		packets.Auth << 4:          {0x18, 3, 0x15, 0, 1},
	}
	for _, version := range []byte{4, 5} {
		for first, body := range bodies {
			for n := range len(body) {
				d := connect(t, b, "dev", version, true)
				if _, err := d.conn.Write(append([]byte{first, byte(n)}, body[:n]...)); err != nil {
					t.Error(err)
				}
				d.conn.Close()
			}
		}
	}
	if b.Stats().Panics == 0 {
		t.Log("the server panics on none of these any more")
	}
	d, _ := connectWith(t, b, 5, packets.ConnectParams{
		ClientIdentifier: "dying", Clean: true, WillFlag: true, WillTopic: "will", WillPayload: []byte("x"), WillQos: 1,
	}, packets.Properties{})
	if _, err := d.conn.Write([]byte{packets.Subscribe<<4 | 2, 6, 0, 1, 0, 0, 1, 'a'}); err != nil {
		t.Error(err)
	}
	d.expectEnd()
	watcher.expectPayloads("x")
	eventually(t, "no trace of the devices", func() bool {
		return b.hook.sessions.get("dying") == nil && b.server.Clients.Len() == 1 && b.Stats().Clients == 1
	})
}

// TestCloseWhileDevicesComeAndGo has others change the server's list of
// devices all the time.
func TestCloseWhileDevicesComeAndGo(t *testing.T) {
	for range 20 {
		b := New(Options{Listeners: []Listener{{Type: TypeTCP, Address: "127.0.0.1:0"}}, Logger: slog.New(slog.DiscardHandler)})
		if err := b.Listen(); err != nil {
			t.Fatal(err)
		}
		d := connect(t, b, "dev", 5, true)
		stop := make(chan struct{})
		var others sync.WaitGroup
		for range 16 {
			others.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
						b.server.Clients.Add(&mqtt.Client{ID: "other"})
						b.server.Clients.Delete("other")
					}
				}
			})
		}
		closed := make(chan error, 1)
		go func() { closed <- b.Close() }()
		select {
		case err := <-closed:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(20 * time.Second):
			t.Fatal("the broker does not close")
		}
		close(stop)
		others.Wait()
		d.expectEndWith(packets.ErrServerShuttingDown.Code)
	}
}
