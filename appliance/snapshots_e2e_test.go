//go:build !novision

package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"image"
	"image/jpeg"
	"io"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"outstation/uplink"
	"outstation/uplink/wire"
	"outstation/vision/sim"
	"outstation/vision/testfiles"
	"outstation/web"
)

const snapshotFPS = 5

// snapshotConfig has two cameras whose pictures can be drawn again: one of
// whole frames and one of crops.
func snapshotConfig(t *testing.T, brokers ...string) Config {
	t.Helper()
	cfg := testConfig(t, t.TempDir(), brokers...)
	cfg.Vision.ONNXRuntime = testfiles.Library().Need(t)
	cfg.Vision.Models = []ModelConfig{{Name: "line", Path: builtinLine}}
	for _, of := range []string{"frame", "crop"} {
		cam := CameraConfig{ID: of, Source: "sim://line?seed=4&fps=5&epoch=0", Model: "line", Snapshot: &SnapshotConfig{}}
		cam.SetDefaults()
		cam.Snapshot.SetDefaults()
		cam.Snapshot.Of, cam.Snapshot.Every = of, 0
		cfg.Vision.Cameras = append(cfg.Vision.Cameras, cam)
	}
	return cfg
}

// atTheCentre are the events with a picture and the pictures by their SHA-256,
// which is checked.
func atTheCentre(t *testing.T, seen *consumer) (events []wire.Detection, pictures map[string][]byte) {
	t.Helper()
	pictures = map[string][]byte{}
	seen.mu.Lock()
	defer seen.mu.Unlock()
	for _, m := range seen.seen {
		if head, sum, ok := strings.Cut(m.Topic(), "/snapshot/"); ok {
			if got := sha256.Sum256(m.Payload()); hex.EncodeToString(got[:]) != sum {
				t.Errorf("%s has a payload with another SHA-256", m.Topic())
			}
			pictures[head[strings.LastIndex(head, "/")+1:]+"/"+sum] = m.Payload()
		}
		if !strings.HasSuffix(m.Topic(), "/detection") {
			continue
		}
		d, err := wire.ParseDetection(m.Payload())
		if err != nil {
			t.Fatal(err)
		}
		if d.SnapshotSHA256 != "" {
			events = append(events, d)
		}
	}
	return events, pictures
}

// TestPicturesAreThoseOfTheirEvents decodes what came to a real centre and
// compares it with the frame that the event's time gives.
func TestPicturesAreThoseOfTheirEvents(t *testing.T) {
	centre := startMosquitto(t)
	seen := consume(t, centre.URL(), "vision/#")
	p := start(t, snapshotConfig(t, centre.URL()), nil, binary(t))
	var events []wire.Detection
	var pictures map[string][]byte
	count := map[string]int{}
	p.eventually("pictures of both cameras and their events", func() bool {
		events, pictures = atTheCentre(t, seen)
		clear(count)
		for _, d := range events {
			if pictures[d.CameraID+"/"+d.SnapshotSHA256] != nil {
				count[d.CameraID]++
			}
		}
		return count["frame"] >= 6 && count["crop"] >= 6
	})
	line, err := sim.NewLine(sim.LineOptions{Seed: 4, FPS: snapshotFPS, DefectRate: sim.DefaultDefectRate})
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range events {
		if b := pictures[d.CameraID+"/"+d.SnapshotSHA256]; b != nil {
			checkPicture(t, line, d, b)
		}
	}
	s := p.until("the pictures on the page", func(s web.Snapshot) bool {
		return s.Cameras[0].Snapshots > 5 && s.Cameras[0].LastSnapshot != "" && s.Snapshots.Pictures > 10
	})
	if s.Cameras[0].SnapshotsFailed != 0 || s.Snapshots.Evicted != 0 || s.Health.State != web.Healthy {
		t.Errorf("%+v, %+v, %+v", s.Cameras[0], s.Snapshots, s.Health)
	}
	d := events[0]
	resp, err := http.Get("http://" + p.cfg.Web.Listen + "/api/v1/snapshots/" + d.SnapshotSHA256)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.Header.Get("Content-Type") != "image/jpeg" || !bytes.Equal(b, pictures[d.CameraID+"/"+d.SnapshotSHA256]) {
		t.Errorf("status %d with %d bytes, %v: not the picture that the centre has", resp.StatusCode, len(b), err)
	}
}

// checkPicture compares a picture with its frame, and with one that is not.
func checkPicture(t *testing.T, line *sim.Line, d wire.Detection, b []byte) {
	t.Helper()
	got, err := jpeg.Decode(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	of := image.Rect(0, 0, d.FrameWidth, d.FrameHeight)
	if d.CameraID == "crop" {
		of = cropOf(d)
	}
	if size := got.Bounds().Size(); math.Abs(float64(size.X-of.Dx())) > 1 || math.Abs(float64(size.Y-of.Dy())) > 1 {
		t.Errorf("%s %d: a picture of %v, want %v", d.CameraID, d.Seq, size, of.Size())
		return
	}
	index := int64(math.Round(float64(d.CapturedAt.UnixNano()) / 1e9 * snapshotFPS))
	same, other := pictureOff(t, line, index, got, of), pictureOff(t, line, index+2, got, of)
	if same > 8 || other < 1.5*same {
		t.Errorf("%s %d: pixels are off by %.1f in the mean, of the frame after next by %.1f", d.CameraID, d.Seq, same, other)
	}
}

// cropOf is the part of the frame that the README promises: the best
// detection and a fifth of it on each side, 16 pixels at least.
func cropOf(d wire.Detection) image.Rectangle {
	best := d.Detections[0]
	for _, o := range d.Detections {
		if o.Confidence > best.Confidence {
			best = o
		}
	}
	x, y := max(best.Box.W/5, 16), max(best.Box.H/5, 16)
	return image.Rect(int(best.Box.X-x), int(best.Box.Y-y), int(math.Ceil(best.Box.X+best.Box.W+x)), int(math.Ceil(best.Box.Y+best.Box.H+y))).
		Intersect(image.Rect(0, 0, d.FrameWidth, d.FrameHeight))
}

// pictureOff is the mean absolute difference of green to a part of a frame.
func pictureOff(t *testing.T, line *sim.Line, index int64, got image.Image, of image.Rectangle) float64 {
	t.Helper()
	w, h := line.Options().Width, line.Options().Height
	want := make([]byte, w*h*3)
	m := line.Image(index)
	defer m.Close()
	if _, err := m.Letterbox(want, w, h, 0); err != nil {
		t.Fatal(err)
	}
	sum, n := 0.0, 0
	for y := range min(got.Bounds().Dy(), of.Dy()) {
		for x := range min(got.Bounds().Dx(), of.Dx()) {
			_, g, _, _ := got.At(x, y).RGBA()
			sum += math.Abs(float64(g>>8) - float64(want[((y+of.Min.Y)*w+x+of.Min.X)*3+1]))
			n++
		}
	}
	return sum / float64(n)
}

// TestNoEventNamesAPictureThatIsNowhere kills the program while pictures flow,
// with the centre and without, and drains the queue.
func TestNoEventNamesAPictureThatIsNowhere(t *testing.T) {
	centre := startMosquitto(t)
	seen := consume(t, centre.URL(), "vision/#")
	cfg := snapshotConfig(t, centre.URL())
	for round := range 4 {
		if round == 2 {
			if err := centre.Stop(); err != nil {
				t.Fatal(err)
			}
		}
		p := start(t, cfg, nil, binary(t))
		goal := uint64(4 + 3*round)
		p.until("pictures", func(s web.Snapshot) bool { return s.Cameras[0].Snapshots+s.Cameras[1].Snapshots >= goal })
		p.kill()
	}
	if err := centre.Start(); err != nil {
		t.Fatal(err)
	}
	cameras := cfg.Vision.Cameras
	cfg.Vision.Cameras = nil
	p := start(t, cfg, nil, binary(t))
	p.until("an empty queue", func(s web.Snapshot) bool {
		left := uint64(0)
		for _, l := range s.Ledger {
			left += l.Queued.Records
		}
		return left == 0 && s.Uplink.State == web.UplinkConnected && s.Uplink.InFlight == 0
	})
	p.stop()
	events, pictures := atTheCentre(t, seen)
	if len(events) < 4+7+10+13 {
		t.Errorf("%d events with a picture", len(events))
	}
	for _, d := range events {
		if pictures[d.CameraID+"/"+d.SnapshotSHA256] == nil {
			t.Errorf("%s %d names a picture that did not come", d.CameraID, d.Seq)
		}
		if _, err := os.Stat(filepath.Join(cfg.DataDir, "snapshots", d.SnapshotSHA256+".jpg")); err != nil {
			t.Errorf("%s %d names a picture that is not in the store: %v", d.CameraID, d.Seq, err)
		}
	}
	t.Logf("%d events with a picture, %d pictures at the centre", len(events), len(pictures))
	cfg.Vision.Cameras = cameras
	p = start(t, cfg, nil, binary(t)) // the store is read again
	p.until("the pictures of before", func(s web.Snapshot) bool { return s.Snapshots.Pictures >= len(pictures) && s.Snapshots.Foreign == 0 })
}

// TestADiskThatFillsCostsPicturesAndNoEvents has a floor that pictures stop
// at, and the queue not yet; then a lower one.
func TestADiskThatFillsCostsPicturesAndNoEvents(t *testing.T) {
	centre := startMosquitto(t)
	seen := consume(t, centre.URL(), "vision/#")
	cfg := snapshotConfig(t, centre.URL())
	var disk unix.Statfs_t
	if err := unix.Statfs(cfg.DataDir, &disk); err != nil {
		t.Fatal(err)
	}
	cfg.Uplink.Queue.MinFreeBytes = Bytes(disk.Bavail * uint64(disk.Bsize) / 10 * 9)
	p := start(t, cfg, nil, binary(t))
	p.until("events that go without", func(s web.Snapshot) bool {
		return s.Cameras[0].SnapshotsFailed >= 3 && s.Cameras[0].Events >= 3 && s.Health.State == web.Degraded &&
			strings.Contains(s.Health.FirstCause, "snapshots: events go without their pictures")
	})
	p.eventually("events at the centre", func() bool { return len(seen.on("/detection")) >= 6 })
	if events, pictures := atTheCentre(t, seen); len(events)+len(pictures) > 0 {
		t.Errorf("%d events with a picture, %d pictures", len(events), len(pictures))
	}
	cfg.Uplink.Queue.MinFreeBytes = 1 << 20
	writeConfig(t, p.file, cfg)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+cfg.Web.Listen+"/api/v1/reload", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	p.until("pictures again", func(s web.Snapshot) bool { return s.Cameras[0].Snapshots >= 2 && s.Health.State == web.Healthy })
	p.eventually("pictures at the centre", func() bool {
		events, pictures := atTheCentre(t, seen)
		return len(events) >= 2 && len(pictures) >= 2
	})
}

// TestAPictureIsMadeToFitTheCentre takes one of 24 KiB.
func TestAPictureIsMadeToFitTheCentre(t *testing.T) {
	centre := startMosquitto(t)
	seen := consume(t, centre.URL(), "vision/#")
	cfg := snapshotConfig(t, centre.URL())
	cfg.Uplink.MaxPacketBytes = 24 << 10
	cfg.Vision.Cameras = cfg.Vision.Cameras[:1]
	cfg.Vision.Cameras[0].FPS = 2
	p := start(t, cfg, nil, binary(t))
	var pictures map[string][]byte
	p.eventually("pictures", func() bool {
		_, pictures = atTheCentre(t, seen)
		return len(pictures) >= 4
	})
	for _, b := range pictures {
		size, err := jpeg.DecodeConfig(bytes.NewReader(b))
		if err != nil || len(b) > 24<<10 || size.Width >= 1280 || size.Width < 200 || size.Width*9 < size.Height*16-32 {
			t.Errorf("%d bytes, %+v, %v", len(b), size, err)
		}
	}
	p.stop()
	q, err := uplink.Open(uplink.Options{Dir: filepath.Join(cfg.DataDir, "queue"), MinFreeBytes: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	if a := q.Ledger()["snapshot"]; a.Dead.Records != 0 || !a.Balanced() {
		t.Errorf("%+v", a)
	}
}
