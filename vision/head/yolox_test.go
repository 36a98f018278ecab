package head

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"outstation/vision"
)

// yolox is the decoder of YOLOX' raw output.
func yolox(tb testing.TB, o Options) *yoloRows {
	tb.Helper()
	d, err := New(YOLOX, o, nil)
	if err != nil {
		tb.Fatal(err)
	}
	return d.(*yoloRows)
}

// rowsOf is one output of rows.
func rowsOf(columns int, data []float32) []Tensor {
	return []Tensor{{[]int{len(data) / columns, columns}, data}}
}

// refBox is a detection of the reference decoder.
type refBox struct {
	class          int
	score          float64
	x0, y0, x1, y1 float64
}

// reference decodes as the paper describes it and nothing more: every cell by
// its own arithmetic, and NMS by repeatedly taking the best that is left and
// removing what overlaps it in its class. It shares no code with YOLOX.
func reference(out []float32, size, classes int, threshold, overlap, scale float64, fw, fh int) []refBox {
	var left []refBox
	row := 0
	for stride := 8; stride <= 32; stride *= 2 {
		for n := 0; n < (size/stride)*(size/stride); n++ {
			p := out[row*(5+classes) : (row+1)*(5+classes)]
			row++
			gx, gy := float64(n%(size/stride)), float64(n/(size/stride))
			best := 0
			for c := range classes {
				if p[5+c] > p[5+best] {
					best = c
				}
			}
			score := float64(p[4]) * float64(p[5+best])
			if score < threshold {
				continue
			}
			cx, cy := (float64(p[0])+gx)*float64(stride), (float64(p[1])+gy)*float64(stride)
			w, h := math.Exp(float64(p[2]))*float64(stride), math.Exp(float64(p[3]))*float64(stride)
			left = append(left, refBox{best, score, cx - w/2, cy - h/2, cx + w/2, cy + h/2})
		}
	}
	var kept []refBox
	for len(left) > 0 {
		top := slices.MaxFunc(left, func(a, b refBox) int { return cmp.Compare(a.score, b.score) })
		left = slices.DeleteFunc(left, func(b refBox) bool {
			return b == top || (b.class == top.class && refIoU(b, top) > overlap)
		})
		b := top
		b.x0, b.x1 = math.Max(b.x0/scale, 0), math.Min(b.x1/scale, float64(fw))
		b.y0, b.y1 = math.Max(b.y0/scale, 0), math.Min(b.y1/scale, float64(fh))
		if b.x1 > b.x0 && b.y1 > b.y0 {
			kept = append(kept, b)
		}
	}
	return kept
}

// refIoU counts areas from the corners.
func refIoU(a, b refBox) float64 {
	area := func(x0, y0, x1, y1 float64) float64 { return math.Max(0, x1-x0) * math.Max(0, y1-y0) }
	both := area(math.Max(a.x0, b.x0), math.Max(a.y0, b.y0), math.Min(a.x1, b.x1), math.Min(a.y1, b.y1))
	return both / (area(a.x0, a.y0, a.x1, a.y1) + area(b.x0, b.y0, b.x1, b.y1) - both)
}

// randomOutput is what a head might say: objects cells are confident, the
// others not, in clusters so that NMS has work.
func randomOutput(r *rand.Rand, rows, classes, objects int) []float32 {
	out := make([]float32, rows*(5+classes))
	for i := range rows {
		p := out[i*(5+classes):]
		p[0], p[1] = r.Float32(), r.Float32()
		p[2], p[3] = r.Float32()*2, r.Float32()*2
		p[4] = r.Float32() * 0.2
		for c := range classes {
			p[5+c] = r.Float32() * 0.3
		}
	}
	for range objects {
		at, class := r.IntN(rows-4), r.IntN(classes)
		for i := at; i < at+4; i++ {
			p := out[i*(5+classes):]
			p[4], p[5+class] = 0.5+r.Float32()/2, 0.5+r.Float32()/2
		}
	}
	return out
}

func TestDecodeMatchesTheReference(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for round := range 200 {
		size, classes := 32*(1+r.IntN(13)), 1+r.IntN(80)
		threshold, overlap, scale := 0.05+r.Float64()*0.8, 0.2+r.Float64()*0.7, 0.2+r.Float64()
		y := yolox(t, Options{Width: size, Height: size, Classes: vision.COCO()[:classes], Confidence: threshold, IoU: overlap})
		out := randomOutput(r, len(y.cells), classes, r.IntN(30))
		fw, fh := int(float64(size)/scale), int(float64(size)/scale*0.75)
		got, err := y.Decode(rowsOf(5+classes, out), TopLeft(scale, fw, fh))
		if err != nil {
			t.Fatal(err)
		}
		want := reference(out, size, classes, threshold, overlap, scale, fw, fh)
		if len(want) > maxCandidates/2 {
			continue
		}
		if len(got) != len(want) {
			t.Fatalf("round %d: %d detections, want %d", round, len(got), len(want))
		}
		for i, w := range want {
			g := got[i]
			off := max(math.Abs(g.Box.X-w.x0), math.Abs(g.Box.Y-w.y0), math.Abs(g.Box.X+g.Box.W-w.x1), math.Abs(g.Box.Y+g.Box.H-w.y1))
			if g.Class != vision.COCO()[w.class] || g.Confidence != w.score || off > 1e-2 {
				t.Fatalf("round %d, detection %d: got %+v, want %+v", round, i, g, w)
			}
		}
	}
}

// one returns the output of a 32×32 model with one class in which a single
// cell speaks.
func one(t *testing.T, cell int, values ...float32) (*yoloRows, []Tensor) {
	t.Helper()
	y := yolox(t, Options{Width: 32, Height: 32, Classes: []string{"x"}})
	out := make([]float32, len(y.cells)*6)
	copy(out[cell*6:], values)
	return y, rowsOf(6, out)
}

func TestDecodeByHand(t *testing.T) {
	// Cell 5 of stride 8 is column 1, row 1; exp(0) = 1 makes the box 8×8.
	y, out := one(t, 5, 0.5, 0.25, 0, 0, 0.8, 0.5)
	got, err := y.Decode(out, TopLeft(0.5, 64, 64))
	if err != nil || len(got) != 1 {
		t.Fatalf("got %v, %v", got, err)
	}
	want := detection("x", float64(float32(0.8))*0.5, 16, 12, 16, 16)
	if got[0] != want {
		t.Errorf("got %+v, want %+v", got[0], want)
	}
}

func TestDecodeSurvivesNonsense(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	for name, values := range map[string][]float32{
		"nan centre": {nan, 0, 0, 0, 1, 1}, "nan size": {0, 0, nan, 0, 1, 1}, "nan objectness": {0, 0, 0, 0, nan, 1},
		"nan class": {0, 0, 0, 0, 1, nan}, "outside": {100, 100, 0, 0, 1, 1}, "infinite centre": {inf, 0, 0, 0, 1, 1},
	} {
		y, out := one(t, 0, values...)
		if got, err := y.Decode(out, TopLeft(1, 32, 32)); err != nil || len(got) != 0 {
			t.Errorf("%s: %v, %v; want nothing", name, got, err)
		}
	}
	y, out := one(t, 0, 0, 0, 100, 100, 1, 1)
	if got, _ := y.Decode(out, TopLeft(1, 32, 24)); len(got) != 1 || got[0].Box != (vision.Box{W: 32, H: 24}) {
		t.Errorf("a box larger than the frame: %v, want it clipped", got)
	}
	if _, err := y.Decode(rowsOf(6, out[0].Data[6:]), TopLeft(1, 32, 32)); err == nil {
		t.Error("no error for an output of the wrong length")
	}
	if _, err := y.Decode(out, TopLeft(0, 32, 32)); err == nil {
		t.Error("no error for a scale of 0")
	}
}

func TestNewRefuses(t *testing.T) {
	for _, o := range []Options{
		{Width: 33, Height: 32, Classes: vision.COCO()},
		{Width: 32, Height: 0, Classes: vision.COCO()},
		{Width: 32, Height: 32},
		{Width: 32, Height: 32, Classes: vision.COCO(), Confidence: 1},
		{Width: 32, Height: 32, Classes: vision.COCO(), IoU: -1},
		{Width: 32, Height: 32, Classes: vision.COCO(), IoU: math.NaN()},
	} {
		if _, err := New(YOLOX, o, nil); err == nil {
			t.Errorf("%+v was accepted", o)
		}
	}
	if n := len(vision.COCO()); n != 80 {
		t.Errorf("%d classes, want 80", n)
	}
}
