package main

import (
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"outstation/broker"
	"outstation/uplink/wire"
	"outstation/vision"
)

// TestLocalSubscribersDoNotWaitForTheFileOfTracks, a write of which does not
// return: they have every event at once. For the centre only what belongs to
// the track waits.
func TestLocalSubscribersDoNotWaitForTheFileOfTracks(t *testing.T) {
	d := newDarkroom(t)
	d.run()
	local := broker.New(broker.Options{
		Listeners: []broker.Listener{{Type: broker.TypeTCP, Address: "127.0.0.1:0"}}, AllowAnonymous: true, Logger: slog.New(slog.DiscardHandler),
	})
	if err := local.Listen(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := local.Close(); err != nil {
			t.Error(err)
		}
	})
	d.recorder.out.broker = local
	here := consume(t, "tcp://"+local.Addresses()[0], "vision/#")

	k := newTrackLog(d.cfg.DataDir, d.recorder.record, slog.New(slog.DiscardHandler))
	k.writing.Lock()
	release := sync.OnceFunc(k.writing.Unlock)
	t.Cleanup(release)
	var told sync.WaitGroup
	told.Go(func() {
		for _, what := range []vision.TrackEvent{vision.TrackStart, vision.TrackBest, vision.TrackEnd} {
			e := trackEvent(what, 1, time.Now())
			e.Camera = "a"
			k.sink(e)
			d.event("b", false)
		}
	})
	eventually(t, "all events at a local subscriber", func() bool { return len(here.on("/detection")) == 6 })
	told.Wait()
	var words []string
	for _, m := range here.on("/detection") {
		e, err := wire.ParseDetection(m.Payload())
		if err != nil {
			t.Fatal(err)
		}
		words = append(words, fmt.Sprint(e.CameraID, e.Seq, e.TrackEvent))
	}
	if got := strings.Join(words, " "); got != "a1start b1 a2best b2 a3end b3" {
		t.Errorf("local subscribers have %s", got)
	}
	d.expect(3, "b1 b2 b3")
	if file := trackFile(d.cfg.DataDir); file != "" {
		t.Errorf("tracks.json has %s", file)
	}
	release()
	d.expect(6, "b1 b2 b3 a1 a2 a3")
	if file := trackFile(d.cfg.DataDir); !strings.Contains(file, `"number":1,`) {
		t.Errorf("the start is queued, and tracks.json has %s", file)
	}
	eventually(t, "the end is durable", func() bool { return len(k.list()) == 0 })
}

// TestEventsOfTwoCallersKeepTheirOrder: ends that are told again come beside
// the pipeline's, and their numbers are in the order of the queue.
func TestEventsOfTwoCallersKeepTheirOrder(t *testing.T) {
	d := newDarkroom(t)
	d.run()
	const each = 50
	var callers sync.WaitGroup
	together := make(chan struct{})
	for caller := range 3 {
		callers.Go(func() {
			<-together
			for n := range each {
				e := trackEvent(vision.TrackBest, uint64(n+1), time.Now())
				e.Camera = "a"
				if caller == 0 {
					e.Before = func() {}
				}
				d.recorder.record(e)
			}
		})
	}
	close(together)
	callers.Wait()
	var want []string
	for n := range 3 * each {
		want = append(want, fmt.Sprint("a", n+1))
	}
	d.expect(len(want), strings.Join(want, " "))
}
