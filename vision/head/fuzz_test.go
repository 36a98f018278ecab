package head

import (
	"encoding/binary"
	"math"
	"testing"

	"outstation/vision"
)

// garbage is one decoder and outputs of the sizes that it takes.
type garbage struct {
	form    Form
	outputs []Port
	dims    [][]int // of one image
}

// garbages are all forms, for two classes and a 64×32 input: 32 + 8 + 2 cells.
func garbages() []garbage {
	port := func(name string) Port { return Port{Name: name, Type: Float32} }
	withBoxes := []Port{{Name: "scores", Dims: []int{1, 9, 3}}, {Name: "boxes", Dims: []int{1, 9, 4}}}
	logits := []Port{{Name: "logits", Dims: []int{1, 9, 2}}, {Name: "boxes", Dims: []int{1, 9, 4}}}
	four := []Port{port("num_dets"), port("det_boxes"), port("det_scores"), port("det_classes")}
	tf := []Port{port("num_detections"), port("detection_boxes"), port("detection_scores"), port("detection_classes")}
	return []garbage{
		{YOLOX, []Port{port("output")}, [][]int{{42, 7}}},
		{YOLOXDecoded, []Port{port("output")}, [][]int{{42, 7}}},
		{YOLOv5, []Port{port("output")}, [][]int{{126, 7}}},
		{YOLOv6, []Port{port("output")}, [][]int{{42, 7}}},
		{YOLOv8, []Port{port("output")}, [][]int{{6, 42}}},
		{YOLOv10, []Port{port("output")}, [][]int{{20, 6}}},
		{End2End, []Port{port("output")}, [][]int{{20, 7}}},
		{EfficientNMS, four, [][]int{{1}, {9, 4}, {9}, {9}}},
		{RTDETR, logits, [][]int{{9, 2}, {9, 4}}},
		{RTDETRUltralytics, []Port{port("output")}, [][]int{{9, 6}}},
		{RTDETRDeploy, []Port{port("labels"), port("boxes"), port("scores")}, [][]int{{9}, {9, 4}, {9}}},
		{SSD, withBoxes, [][]int{{9, 4}, {9, 3}}},
		{TF, tf, [][]int{{}, {9, 4}, {9}, {9}}},
	}
}

// fill makes the outputs of raw: four bytes a number, again and again.
func (g garbage) fill(raw []byte) (out []Tensor) {
	next := 0
	for _, dims := range g.dims {
		n := 1
		for _, d := range dims {
			n *= d
		}
		t := Tensor{Dims: dims, Data: make([]float32, n)}
		for i := range t.Data {
			var bits [4]byte
			for j := range bits {
				if len(raw) > 0 {
					bits[j] = raw[next%len(raw)]
					next++
				}
			}
			t.Data[i] = math.Float32frombits(binary.LittleEndian.Uint32(bits[:]))
		}
		out = append(out, t)
	}
	return out
}

func floats(values ...float32) (raw []byte) {
	for _, v := range values {
		raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(v))
	}
	return raw
}

// FuzzDecode gives every decoder numbers that no model says. Whatever comes,
// a detection lies in its frame.
func FuzzDecode(f *testing.F) {
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	f.Add(floats(nan), 1., 1., 0., 0., uint16(100), uint16(50))
	f.Add(floats(inf, 1, -inf, 0.9, 1), 0.5, 2., 3., -7., uint16(1), uint16(1))
	f.Add(floats(1), 1., 1., 0., 0., uint16(64), uint16(32))
	f.Add(floats(0.9, 1, 0.5, 3e38, -3e38, 1, 1e-45), 1e-300, 1e300, 1e300, 0., uint16(64), uint16(32))
	f.Add(floats(5, 6, 7, 20, 30, 0.9, 0, 1), 1., 1., 0., 0., uint16(0), uint16(32))
	f.Fuzz(func(t *testing.T, raw []byte, scaleX, scaleY, x, y float64, width, height uint16) {
		at := Placement{ScaleX: scaleX, ScaleY: scaleY, X: x, Y: y, Width: int(width), Height: int(height)}
		for _, g := range garbages() {
			d, err := New(g.form, Options{Width: 64, Height: 32, Classes: []string{"a", "b"}, ClassConfidence: map[string]float64{"b": 0.05}}, g.outputs)
			if err != nil {
				t.Fatal(err)
			}
			found, err := d.Decode(g.fill(raw), at)
			if err != nil && len(found) > 0 {
				t.Errorf("%s: %v with the error %v", g.form, found, err)
			}
			for _, f := range found {
				checkFound(t, g.form, f, at)
			}
		}
	})
}

func checkFound(t *testing.T, form Form, f vision.Detection, at Placement) {
	t.Helper()
	b := f.Box
	inside := b.X >= 0 && b.Y >= 0 && b.W > 0 && b.H > 0 && b.X+b.W <= float64(at.Width)+1e-9 && b.Y+b.H <= float64(at.Height)+1e-9
	if !inside || !(f.Confidence > 0 && f.Confidence <= 1) || (f.Class != "a" && f.Class != "b") {
		t.Errorf("%s: %+v in a frame of %d×%d", form, f, at.Width, at.Height)
	}
}

// TestDecodersRefuseOtherSizes: a graph may leave its outputs' sizes open, so
// each run is checked.
func TestDecodersRefuseOtherSizes(t *testing.T) {
	for _, g := range garbages() {
		d, err := New(g.form, Options{Width: 64, Height: 32, Classes: []string{"a", "b"}}, g.outputs)
		if err != nil {
			t.Fatal(err)
		}
		whole := func() []Tensor { return g.fill(floats(0)) }
		if _, err := d.Decode(whole(), TopLeft(1, 64, 32)); err != nil {
			t.Errorf("%s: %v", g.form, err)
		}
		for i := range g.dims {
			less := whole()
			less[i].Data = less[i].Data[:len(less[i].Data)-1]
			if _, err := d.Decode(less, TopLeft(1, 64, 32)); err == nil {
				t.Errorf("%s: output %d is a number short, and no error", g.form, i)
			}
		}
		if _, err := d.Decode(whole()[1:], TopLeft(1, 64, 32)); err == nil {
			t.Errorf("%s: an output less, and no error", g.form)
		}
		if _, err := d.Decode(whole(), Placement{}); err == nil {
			t.Errorf("%s: a scale of 0, and no error", g.form)
		}
	}
}
