package acceptance

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"outstation/uplink"
	"outstation/uplink/wire"
	"outstation/vision/sim"
	"outstation/web"
)

var epoch = time.Unix(1_790_000_000, 0)

const fps = 15

// testRun is a run that is over: one camera, whose appliance lived from frame
// 0 to 150 and from 180 to 300.
func testRun(t *testing.T) *run {
	t.Helper()
	o := Options{
		Device: "dev", Region: "reg", Site: "site", Since: epoch.Add(-time.Second),
		Cameras: []Camera{{"cam", fmt.Sprintf("sim://line?seed=3&defects=1&epoch=%d", epoch.Unix())}},
	}.withDefaults()
	a, err := newAccount(o.Device, o.Since, o.Cameras)
	if err != nil {
		t.Fatal(err)
	}
	r := &run{o: o, account: a, start: epoch, end: due(300), lives: []*life{
		{first: map[string]int64{"cam": 0}, ended: due(150)},
		{first: map[string]int64{"cam": 180}, ended: due(300)},
	}}
	r.looking = &r.drain
	return r
}

// due is just after a frame is due.
func due(index int64) time.Time {
	return epoch.Add(time.Duration(float64(index)/fps*float64(time.Second)) + time.Microsecond)
}

// perfect is the event of a detector that finds all that a frame shows.
func perfect(t *testing.T, r *run, index int64, seq uint64) []byte {
	t.Helper()
	s := r.account.cameras["cam"].scene
	e := wire.Detection{
		EventID: uuid.NewString(), DeviceID: "dev", CameraID: "cam", Seq: seq, ModelName: "line", FrameWidth: 1280, FrameHeight: 720,
		CapturedAt: wire.At(due(index)), InferredAt: wire.At(due(index).Add(20 * time.Millisecond)), Detections: []wire.Object{},
	}
	for _, l := range s.line.Truth(index).Labels() {
		e.Detections = append(e.Detections, wire.Object{Class: l.Class, Confidence: 0.9, Box: wire.Box(l.Box)})
	}
	b, err := e.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// arrive brings the events of a perfect detector to the centre, but for those
// whose number is left out.
func arrive(t *testing.T, r *run, without ...uint64) {
	t.Helper()
	seq := uint64(0)
	for i := int64(0); i <= 300; i++ {
		if i > 150 && i < 180 {
			continue
		}
		seq++
		if !slices.Contains(without, seq) {
			r.account.take(uplink.Tapped{Payload: perfect(t, r, i, seq)}, due(i).Add(50*time.Millisecond))
		}
	}
	all := web.Amount{Records: seq}
	r.ledger = web.RouteLedger{Accepted: all, Delivered: all}
}

func TestAllArrived(t *testing.T) {
	r := testRun(t)
	arrive(t, r)
	p := r.report()
	if p.Verdict != Passed || p.Lost != 0 || p.SeqGaps != 0 || p.Duplicates != 0 || len(p.Reasons) != 0 {
		t.Errorf("verdict %s, lost %d, gaps %d, duplicates %d: %v", p.Verdict, p.Lost, p.SeqGaps, p.Duplicates, p.Reasons)
	}
	if p.EventsAccepted != 272 || p.EventsAtCentre != 272 || p.EventsMade != 272 {
		t.Errorf("events: made %d, accepted %d, at the centre %d; expected 272", p.EventsMade, p.EventsAccepted, p.EventsAtCentre)
	}
	if p.PartsShown < 20 || p.PartsDetected != p.PartsShown || p.PartsMissed != 0 || p.DetectionsVain != 0 {
		t.Errorf("parts: shown %d, detected %d, missed %d, boxes in vain %d", p.PartsShown, p.PartsDetected, p.PartsMissed, p.DetectionsVain)
	}
	if p.DefectsShown < 20 || p.DefectsFound != p.DefectsShown {
		t.Errorf("defects: shown %d, found %d", p.DefectsShown, p.DefectsFound)
	}
	if p.Frames.Due != 301 || p.FramesDropped[whyDead] != 29 {
		t.Errorf("frames: due %d, dead %d; expected 301 and 29", p.Frames.Due, p.FramesDropped[whyDead])
	}
	if l := p.Latency[0]; l.P50MS != 20 || l.Count != 272 {
		t.Errorf("latency: %+v", l)
	}
}

// TestOneIsMissing leaves out an event in the middle, and one at the end, that
// leaves no gap.
func TestOneIsMissing(t *testing.T) {
	for seq, gaps := range map[uint64]int{100: 1, 272: 0} {
		r := testRun(t)
		arrive(t, r, seq)
		if p := r.report(); p.Verdict != Failed || p.Lost != 1 || p.SeqGaps != gaps {
			t.Errorf("without %d: verdict %s, lost %d, gaps %d: %v", seq, p.Verdict, p.Lost, p.SeqGaps, p.Reasons)
		}
	}
}

func TestVerdicts(t *testing.T) {
	for name, c := range map[string]struct {
		change  func(*run)
		verdict string
		reason  string
	}{
		"unknown to the ledger": {func(r *run) { r.ledger.Accepted.Records--; r.ledger.Delivered.Records-- }, Failed, "does not know"},
		"an unbalanced ledger":  {func(r *run) { r.ledger.Delivered.Records-- }, Failed, "does not add up"},
		"evicted": {func(r *run) {
			r.ledger.Accepted.Records++
			r.ledger.Evicted.Records++
		}, Failed, "evicted: 1"},
		"ended by itself": {func(r *run) { r.wrong = []string{"it ended"} }, Failed, "it ended"},
		"interrupted":     {func(r *run) { r.interrupted = true }, Interrupted, "interrupted"},
		"two with one number": {func(r *run) {
			r.account.take(uplink.Tapped{Payload: perfect(t, r, 299, 5)}, due(301))
			r.ledger.Accepted.Records++
			r.ledger.Delivered.Records++
		}, Failed, "number of another"},
	} {
		r := testRun(t)
		arrive(t, r)
		c.change(r)
		if p := r.report(); p.Verdict != c.verdict || !strings.Contains(strings.Join(p.Reasons, "\n"), c.reason) {
			t.Errorf("%s: %s, %v", name, p.Verdict, p.Reasons)
		}
	}
	if p := testRun(t).report(); p.Verdict != Failed || !strings.Contains(strings.Join(p.Reasons, "\n"), "nothing was proved") {
		t.Errorf("without an event: %s, %v", p.Verdict, p.Reasons)
	}
}

func TestRemarks(t *testing.T) {
	r := testRun(t)
	r.faults = []Fault{{Kind: Outage}, {Kind: Kill}}
	r.lives[0].last.Uplink.Reconnects = 1
	if list := r.remarks(); len(list) != 0 {
		t.Errorf("got %v, expected nothing", list)
	}
	r.lives[1].last.Uplink.Reconnects = 2
	r.drain.last.Ledger = []web.RouteLedger{{Route: "event", Dead: web.Amount{Records: 3}}}
	if list := r.remarks(); len(list) != 2 || !strings.HasPrefix(list[0], "the link was lost 2 more") || !strings.HasPrefix(list[1], "route event: 3 ") {
		t.Errorf("got %v", list)
	}
}

func TestArrivalsAreToldApart(t *testing.T) {
	r := testRun(t)
	e := perfect(t, r, 10, 1)
	old := strings.Replace(string(e), wire.At(due(10)).UTC().Format("2006-01-02T15"), "2020-01-02T15", 1)
	for _, m := range []uplink.Tapped{
		{Payload: e}, {Payload: e}, {Payload: e, Again: true}, {Payload: []byte("{}")}, {Payload: []byte(old)},
		{Payload: []byte(strings.Replace(string(e), `"device_id":"dev"`, `"device_id":"other"`, 1))},
	} {
		r.account.take(m, due(11))
	}
	a := r.account
	if a.events() != 1 || a.duplicates != 1 || a.again != 1 || a.unreadable != 1 || a.foreign != 2 {
		t.Errorf("events %d, duplicates %d, again %d, unreadable %d, foreign %d", a.events(), a.duplicates, a.again, a.unreadable, a.foreign)
	}
}

// TestWhatNobodyCouldSee has the process dead for so long that parts pass by.
func TestWhatNobodyCouldSee(t *testing.T) {
	r := testRun(t)
	r.lives[1] = &life{first: map[string]int64{"cam": 450}, ended: due(600)}
	r.end = due(600)
	s := r.account.cameras["cam"].shown(r.lives, "cam")
	if len(s.unseen.parts) < 10 || s.dead != 299 {
		t.Errorf("%d of %d parts, %d frames; expected more than 10 and 299", len(s.unseen.parts), len(s.all.parts), s.dead)
	}
	for i := range int64(151) {
		for _, p := range r.account.cameras["cam"].scene.line.Truth(i).Parts {
			if s.unseen.parts[p.ID] && r.account.cameras["cam"].scene.whole(p.Box) {
				t.Fatalf("part %d was in view in frame %d", p.ID, i)
			}
		}
	}
}

func TestWrongBoxesAreInVain(t *testing.T) {
	r := testRun(t)
	s := r.account.cameras["cam"].scene
	part := s.line.Truth(20).Parts[2]
	box := wire.Box(part.Box)
	shifted := box
	shifted.X += box.W / 2
	found := newSeen()
	wrong := s.judge(wire.Detection{CapturedAt: wire.At(due(20)), Detections: []wire.Object{
		{Class: sim.ClassPart, Box: box}, {Class: sim.ClassPart, Box: shifted}, {Class: sim.ClassDent, Box: box},
	}}, found)
	if wrong != 2 || !found.parts[part.ID] || len(found.flaws) != 0 {
		t.Errorf("wrong %d, found %v", wrong, found)
	}
}

// TestFirstFrame follows from the newest and the count.
func TestFirstFrame(t *testing.T) {
	r := testRun(t)
	l := &life{first: map[string]int64{}}
	look := func(frames uint64, newest int64) {
		l.look(web.Snapshot{Cameras: []web.Camera{{ID: "cam", Frames: frames, LastFrameAt: due(newest)}}}, r.account.cameras)
	}
	look(0, 0)
	if l.sees(r.account.cameras) {
		t.Error("it sees without a frame")
	}
	look(5, 104)
	look(9, 108)
	if l.first["cam"] != 100 || !l.sees(r.account.cameras) {
		t.Errorf("first frame %d, expected 100", l.first["cam"])
	}
}
