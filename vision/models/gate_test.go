package models

import (
	"bytes"
	"errors"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"outstation/vision"
	"outstation/vision/sim"
)

// finds is a detector that always finds the same.
type finds struct {
	boxes  []vision.Detection
	err    error
	counts float64 // from where on a detection counts
}

var _ vision.Detector = finds{}

func (f finds) Detect(vision.Frame) ([]vision.Detection, vision.Timing, error) {
	return f.boxes, vision.Timing{Run: time.Millisecond}, f.err
}
func (f finds) Info() vision.DetectorInfo {
	return vision.DetectorInfo{Provider: "cpu", Runtime: "fake 1", InputWidth: 640, InputHeight: 384, Confidence: f.counts,
		ClassConfidence: map[string]float64{"hole": 0.5}}
}
func (finds) Close() error { return nil }

func part(confidence, x, y, w, h float64) vision.Detection {
	return vision.Detection{Class: "part", Confidence: confidence, Box: vision.Box{X: x, Y: y, W: w, H: h}}
}

func TestGateComparesClassBoxAndConfidence(t *testing.T) {
	right := part(0.9, 4, 4, 20, 20)
	scratch := right
	scratch.Class = "scratch"
	for name, c := range map[string]struct {
		found []vision.Detection
		want  string // "" passes
	}{
		"the same":            {[]vision.Detection{right}, ""},
		"almost":              {[]vision.Detection{part(0.82, 4.5, 4, 20.5, 20)}, ""},
		"and one that is not": {[]vision.Detection{right, part(0.35, 40, 4, 9, 9)}, ""}, // near the floor
		"nothing":             {nil, "a.png: expected part 0.90 at x 4.0 y 4.0, 20.0×20.0, got no detection of that class among 0"},
		"another class":       {[]vision.Detection{scratch}, "got no detection of that class among 1"},
		"moved":               {[]vision.Detection{part(0.9, 9, 4, 20, 20)}, "part 0.90 at x 9.0 y 4.0, 20.0×20.0 as the closest, with an IoU of 0.60; at least 0.85 is wanted"},
		"less sure":           {[]vision.Detection{part(0.6, 4, 4, 20, 20)}, "got it with confidence 0.60; at most 0.10 apart"},
		"too many":            {[]vision.Detection{right, part(0.7, 40, 4, 9, 9)}, "got part 0.70 at x 40.0 y 4.0, 9.0×9.0, which nobody expects"},
		"twice":               {[]vision.Detection{right, right}, "which nobody expects"},
	} {
		g, err := RunGate(t.Context(), someGolden(), finds{boxes: c.found}, time.Now())
		if passed := err == nil; passed != (c.want == "") || g.Passed != passed {
			t.Errorf("%s: got %+v, %v", name, g, err)
			continue
		}
		if c.want != "" && (!errors.Is(err, ErrGate) || !strings.Contains(err.Error(), c.want) || !strings.Contains(g.Reason, c.want)) {
			t.Errorf("%s: got %v", name, err)
		}
		if c.want == "" && (g.Frames != 1 || g.Boxes != 1 || g.LeastIoU < 0.85 || g.Provider != "cpu" || g.Runtime != "fake 1" || g.Input != "640×384") {
			t.Errorf("%s: got %+v", name, g)
		}
	}
	if g, err := RunGate(t.Context(), someGolden(), finds{err: errors.New("no memory")}, time.Now()); !errors.Is(err, ErrGate) || !strings.Contains(err.Error(), "no memory") || g.Passed {
		t.Errorf("a detector that fails: %+v, %v", g, err)
	}
}

// TestGateKnowsTheConfiguredConfidence: what has to be found has to be, though
// the configuration counts only what is surer; what is left over is wrong from
// where on it counts.
func TestGateKnowsTheConfiguredConfidence(t *testing.T) {
	right, hole := part(0.9, 4, 4, 20, 20), part(0.62, 30, 4, 9, 9)
	hole.Class = "hole"
	for name, c := range map[string]struct {
		found []vision.Detection
		want  string // "" passes
	}{
		"nothing":              {nil, "expected part 0.90"},
		"what is expected":     {[]vision.Detection{right}, ""},
		"what does not count":  {[]vision.Detection{right, part(0.8, 40, 4, 9, 9)}, ""},
		"what counts":          {[]vision.Detection{right, part(0.96, 40, 4, 9, 9)}, "got part 0.96"},
		"a class of its own":   {[]vision.Detection{right, hole}, "got hole 0.62"},
		"another, less surely": {[]vision.Detection{part(0.7, 4, 4, 20, 20)}, "got it with confidence 0.70"},
	} {
		g, err := RunGate(t.Context(), someGolden(), finds{boxes: c.found, counts: 0.85}, time.Now())
		if passed := err == nil; passed != (c.want == "") || g.Passed != passed || passed && g.Boxes != 1 {
			t.Errorf("%s: got %+v, %v", name, g, err)
		}
		if c.want != "" && (!errors.Is(err, ErrGate) || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// TestAnOptionalBoxMayBeMissing, and there.
func TestAnOptionalBoxMayBeMissing(t *testing.T) {
	golden := someGolden()
	golden["golden.json"].Data = []byte(`{"floor":0.2,"tolerance":{"iou":0.5,"confidence":0.3},"frames":[{"file":"a.png","boxes":[
		{"class":"part","confidence":0.9,"box":{"x":4,"y":4,"w":20,"h":20}},
		{"class":"part","confidence":0.8,"box":{"x":34,"y":4,"w":20,"h":20},"optional":true}]}]}`)
	for _, found := range [][]vision.Detection{{part(0.7, 6, 4, 20, 20)}, {part(0.7, 6, 4, 20, 20), part(0.9, 34, 4, 20, 20)}} {
		if g, err := RunGate(t.Context(), golden, finds{boxes: found}, time.Now()); err != nil || g.Boxes != 1 {
			t.Errorf("%v: got %+v, %v", found, g, err)
		}
	}
}

func TestGoldenFramesThatProveNothingAreRefused(t *testing.T) {
	box := `{"class":"part","confidence":0.9,"box":{"x":4,"y":4,"w":20,"h":20}`
	for text, want := range map[string]string{
		`{`:             "unexpected end",
		`{"frames":[]}`: "expected 1 to 64 frames, got 0",
		`{"frames":[{"file":"a.png","boxes":[]}]}`:                                                              "prove nothing",
		`{"frames":[{"file":"a.png","boxes":[` + box + `,"optional":true}]}]}`:                                  "prove nothing",
		`{"floor":0.85,"frames":[{"file":"a.png","boxes":[` + box + `}]}]}`:                                     "a confidence of at least 0.95",
		`{"frames":[{"file":"../a.png","boxes":[` + box + `}]}]}`:                                               `got "../a.png"`,
		`{"frames":[{"file":"golden.json","boxes":[` + box + `}]}]}`:                                            `got "golden.json"`,
		`{"frames":[{"file":"a.png","boxes":[` + box + `}]},{"file":"a.png"}]}`:                                 "each frame's file once",
		`{"frames":[{"file":"b.png","boxes":[` + box + `}]}]}`:                                                  "b.png",
		`{"tolerance":{"iou":2},"frames":[{"file":"a.png","boxes":[` + box + `}]}]}`:                            "tolerance.iou",
		`{"frames":[{"file":"a.png","boxes":[{"class":"part","confidence":0.9,"box":{"x":50,"w":20,"h":9}}]}]}`: "a box within 64×48",
	} {
		golden := someGolden()
		golden["golden.json"].Data = []byte(text)
		if _, err := ReadGolden(golden); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v", text, err)
		}
	}
	bomb := someGolden()
	bomb["a.png"].Data = somePNG(maxSide+1, 1)
	if _, err := ReadGolden(bomb); err == nil || !strings.Contains(err.Error(), "1 to 8192 pixels") {
		t.Errorf("got %v", err)
	}
}

// TestPicturesAreScaledAsCamerasFramesAre compares with the renderer of the
// simulated line, which draws at any size, and with the picture itself.
func TestPicturesAreScaledAsCamerasFramesAre(t *testing.T) {
	p, err := readPicture(someGolden(), "a.png")
	if err != nil {
		t.Fatal(err)
	}
	same := make([]byte, 3*64*48)
	if scale, err := p.Letterbox(same, 64, 48, 9); err != nil || scale != 1 {
		t.Fatal(scale, err)
	}
	for i := range 64 * 48 {
		if want := byte(i); same[3*i] != want || same[3*i+1] != want || same[3*i+2] != want {
			t.Fatalf("pixel %d is %v, want %d", i, same[3*i:3*i+3], want)
		}
	}
	boxed := make([]byte, 3*32*32)
	if scale, err := p.Letterbox(boxed, 32, 32, 9); err != nil || scale != 0.5 {
		t.Fatal(scale, err)
	}
	wide := make([]byte, 3*32*24)
	if err := p.Stretch(wide, 32, 24); err != nil || !bytes.Equal(wide, boxed[:len(wide)]) {
		t.Errorf("stretched by the same in both directions it differs from what is letterboxed (%v)", err)
	}
	high := make([]byte, 3*16*48) // four pixels of a row become one
	if err := p.Stretch(high, 16, 48); err != nil || high[0] != byte((1+2)/2.0+0.5) || high[3*16] != high[0]+64 {
		t.Errorf("the first pixels of two rows are %d and %d (%v)", high[0], high[3*16], err)
	}
	if err := p.Stretch(high[1:], 16, 48); err == nil {
		t.Error("a memory that is too small is taken")
	}
	if got, want := boxed[0], byte((0+1+64+65)/4+1); got != want { // the mean of four, rounded
		t.Errorf("the first pixel is %d, want %d", got, want)
	}
	if boxed[3*32*23] == 9 || boxed[3*32*24] != 9 || boxed[len(boxed)-1] != 9 {
		t.Error("the padding does not begin below row 24")
	}
	if _, err := p.Letterbox(boxed[1:], 32, 32, 9); err == nil {
		t.Error("a memory that is too small is taken")
	}
	red := &picture{[]byte{200, 100, 50, 255}, 1, 1}
	one := make([]byte, 3)
	if _, err := red.Letterbox(one, 1, 1, 0); err != nil || !bytes.Equal(one, []byte{50, 100, 200}) {
		t.Errorf("blue, green, red of one pixel: %v, %v", one, err)
	}
}

func TestBenchCountsWhatItMeasures(t *testing.T) {
	f, err := Bench(t.Context(), fstest.MapFS{}, finds{}, time.Millisecond)
	if err != nil || f.Frames < 1 || f.PerSecond <= 0 || f.Median != time.Millisecond || f.P99 != time.Millisecond || f.Frame != "grey, 1280×720" {
		t.Errorf("got %+v, %v", f, err)
	}
	if f, err := Bench(t.Context(), someGolden(), finds{}, 0); err != nil || f.Frame != "a.png" {
		t.Errorf("got %+v, %v", f, err)
	}
}

// TestBenchScalesOnce: what is kept is what the picture is scaled to.
func TestBenchScalesOnce(t *testing.T) {
	p, err := readPicture(someGolden(), "a.png")
	if err != nil {
		t.Fatal(err)
	}
	once := &scaledOnce{picture: p}
	for _, side := range []int{32, 32, 16, 32} {
		got, want := make([]byte, 3*side*16), make([]byte, 3*side*16)
		scale, err := once.Letterbox(got, side, 16, 9)
		right, errRight := p.Letterbox(want, side, 16, 9)
		if err != nil || errRight != nil || scale != right || !bytes.Equal(got, want) {
			t.Errorf("%d: got %v, %v", side, scale, err)
		}
	}
	for _, wide := range []int{32, 32, 16} {
		got, want, boxed := make([]byte, 3*wide*16), make([]byte, 3*wide*16), make([]byte, 3*wide*16)
		err, errRight := once.Stretch(got, wide, 16), p.Stretch(want, wide, 16)
		if err != nil || errRight != nil || !bytes.Equal(got, want) {
			t.Errorf("%d, stretched: got %v", wide, err)
		}
		if _, err := once.Letterbox(boxed, wide, 16, 0); err != nil || (wide == 32 && bytes.Equal(boxed, got)) {
			t.Errorf("%d: what was stretched is taken for what is letterboxed (%v)", wide, err)
		}
	}
	if _, err := once.Letterbox(make([]byte, 9), 32, 32, 9); err == nil {
		t.Error("a memory that is too small is taken")
	}
	if err := once.Stretch(make([]byte, 9), 32, 32); err == nil {
		t.Error("a memory that is too small is taken")
	}
}

// TestWhatIsExpectedPasses: golden frames that a detector made are those that
// it passes.
func TestWhatIsExpectedPasses(t *testing.T) {
	dir := someGolden()
	d := finds{boxes: []vision.Detection{part(0.9, 4.041, 4, 20, 0.001), part(0.2, 40, 4, 9, 9)}}
	g, err := Expect(t.Context(), dir, d, 0.3)
	if err != nil || len(g.Frames) != 1 || len(g.Frames[0].Boxes) != 1 || g.Frames[0].Boxes[0].Box != (ExpectedPos{4.04, 4, 20, 0.01}) {
		t.Fatalf("got %+v, %v", g, err)
	}
	if _, err := Expect(t.Context(), dir, finds{}, 0.3); err == nil {
		t.Error("golden frames without a box")
	}
	if _, err := Expect(t.Context(), fstest.MapFS{}, d, 0.3); err == nil {
		t.Error("golden frames without a picture")
	}
}

// TestTheCatalogueIsWhatItSays reads each entry's golden frames, and adds what
// is part of the program.
func TestTheCatalogueIsWhatItSays(t *testing.T) {
	s := newStore(t)
	for _, e := range Catalogue() {
		if err := CheckName(e.Name); err != nil {
			t.Error(err)
		}
		g, err := ReadGolden(e.Golden())
		if err != nil {
			t.Fatalf("%s: %v", e.Name, err)
		}
		classes := e.Classes
		if classes == nil {
			classes = vision.COCO()
		}
		for _, f := range g.Frames {
			for _, b := range f.Boxes {
				if !strings.Contains(" "+strings.Join(classes, " ")+" ", " "+b.Class+" ") {
					t.Errorf("%s: it has no class %q", e.Name, b.Class)
				}
			}
		}
		if e.Address != "" {
			if _, err := ParseAddress(e.Address); err != nil || CheckSHA256(e.SHA256) != nil || e.Bytes == 0 {
				t.Errorf("%+v: %v", e, err)
			}
			continue
		}
		a, err := e.Addition(s, Download{})
		if err != nil {
			t.Fatal(err)
		}
		out, err := s.Add(t.Context(), a)
		if err != nil || !out.Golden() || out.Confidence != sim.Confidence {
			t.Errorf("%+v, %v", out, err)
		}
	}
	if _, ok := KnownSum("695e750a5d5754bb5a8d5325643b59282191a7e7a564e435a415fd3c578eab14"); !ok {
		t.Error("YOLOX-nano is not known by its hash")
	}
	if e, ok := Known("x"); ok {
		t.Errorf("got %+v", e)
	}
	if _, err := fs.Stat(goldenFrames, "golden/README.md"); err == nil {
		t.Error("the README is part of the program")
	}
}

func TestNamesOfFiles(t *testing.T) {
	for file, want := range map[string]string{"/x/YOLOX_nano.onnx": "yolox_nano", "a b.v2.onnx": "a-b.v2", "": ""} {
		if got := NameOf(file); got != want {
			t.Errorf("%q: got %q", file, got)
		}
	}
}
