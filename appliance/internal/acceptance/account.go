package acceptance

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"outstation/uplink"
	"outstation/uplink/wire"
)

// account is what arrived at the centre, compared with the truth. It is safe
// for concurrent use.
type account struct {
	device string
	since  time.Time // what was captured before is of another run

	mu         sync.Mutex
	cameras    map[string]*cameraAccount
	ids        map[uuid.UUID]bool
	arrivals   []arrival // of each event the first
	duplicates int       // arrivals after the first
	again      int       // that the centre itself delivered twice
	foreign    int       // of another device or run
	unreadable int
	detections int
	wrong      int // detections with nothing behind them
	model, sum string
}

// cameraAccount is the part of one camera.
type cameraAccount struct {
	scene  *scene
	seqs   map[uint64]bool
	twice  int // events with the seq of another
	found  seen
	events int
}

// arrival is when an event happened and arrived.
type arrival struct {
	captured          time.Time
	inferred, arrived time.Duration // since captured
}

func newAccount(device string, since time.Time, cameras []Camera) (*account, error) {
	a := &account{device: device, since: since, cameras: map[string]*cameraAccount{}, ids: map[uuid.UUID]bool{}}
	for _, c := range cameras {
		s, err := newScene(c.Source)
		if err != nil {
			return nil, fmt.Errorf("camera %s: %w", c.ID, err)
		}
		a.cameras[c.ID] = &cameraAccount{scene: s, seqs: map[uint64]bool{}, found: newSeen()}
	}
	return a, nil
}

// take counts a message that arrived at the centre.
func (a *account) take(m uplink.Tapped, now time.Time) {
	e, err := wire.ParseDetection(m.Payload)
	id, errID := uuid.Parse(e.EventID)
	a.mu.Lock()
	defer a.mu.Unlock()
	if err != nil || errID != nil {
		a.unreadable++
		return
	}
	c := a.cameras[e.CameraID]
	if c == nil || e.DeviceID != a.device || e.CapturedAt.Before(a.since) {
		a.foreign++
		return
	}
	switch {
	case a.ids[id] && m.Again:
		a.again++
		return
	case a.ids[id]:
		a.duplicates++
		return
	}
	a.ids[id] = true
	if c.seqs[e.Seq] {
		c.twice++
	}
	c.seqs[e.Seq] = true
	c.events++
	a.model, a.sum = e.ModelName, e.ModelSHA256
	a.detections += len(e.Detections)
	a.wrong += c.scene.judge(e, c.found)
	a.arrivals = append(a.arrivals, arrival{
		e.CapturedAt.Time, e.InferredAt.Sub(e.CapturedAt.Time), now.Sub(e.CapturedAt.Time),
	})
}

// events is how many different events arrived.
func (a *account) events() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.ids)
}

// gaps counts the numbers that are missing among a camera's, and names the
// first of them. Numbers begin with 1.
func (c *cameraAccount) gaps() (n int, first []uint64) {
	highest := uint64(0)
	for seq := range c.seqs {
		highest = max(highest, seq)
	}
	for seq := uint64(1); seq < highest; seq++ {
		if c.seqs[seq] {
			continue
		}
		if n++; n <= namedGaps {
			first = append(first, seq)
		}
	}
	return n, first
}

// namedGaps is how many missing numbers of a camera are named.
const namedGaps = 10

// latest are the arrivals in the order of capture.
func (a *account) latest() []arrival {
	a.mu.Lock()
	defer a.mu.Unlock()
	list := slices.Clone(a.arrivals)
	slices.SortFunc(list, func(x, y arrival) int { return x.captured.Compare(y.captured) })
	return list
}
