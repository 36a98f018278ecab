//go:build !novision

package onnx

import (
	"bytes"
	"encoding/json"
	"image"
	"image/color"
	"image/png"
	"testing"
	"testing/fstest"
	"time"

	"outstation/vision"
	"outstation/vision/head"
	"outstation/vision/modelfile"
	"outstation/vision/models"
)

// asPNG is a frame of the fixtures as a picture that fills the input of 96×64
// as far as the placement lets it, and by how much it was enlarged: what a
// detector does to the picture afterwards changes no pixel.
func asPNG(t *testing.T, e *enlarged, stretched bool) (data []byte, byX, byY float64) {
	t.Helper()
	w, h := 96, 64
	if !stretched {
		w, h, _ = vision.Fit(e.width, e.height, w, h)
	}
	bgr := make([]byte, 3*w*h)
	if err := e.draw(bgr, w, w, h); err != nil {
		t.Fatal(err)
	}
	m := image.NewRGBA(image.Rect(0, 0, w, h))
	for i := range w * h {
		m.Set(i%w, i/w, color.RGBA{bgr[3*i+2], bgr[3*i+1], bgr[3*i], 255})
	}
	var out bytes.Buffer
	if err := png.Encode(&out, m); err != nil {
		t.Fatal(err)
	}
	return out.Bytes(), float64(w) / float64(e.width), float64(h) / float64(e.height)
}

// exportedGolden are golden frames that say what export.py found.
func exportedGolden(t *testing.T, want exported, stretched bool) fstest.MapFS {
	t.Helper()
	all := exportedFrames(t)
	g := models.Golden{Floor: 0.4, Tolerance: models.Tolerance{IoU: 0.98, Confidence: 0.003}}
	dir := fstest.MapFS{}
	for name, boxes := range want.Frames {
		data, byX, byY := asPNG(t, all[name].Image.(*enlarged), stretched)
		dir[name+".png"] = &fstest.MapFile{Data: data}
		f := models.GoldenFrame{File: name + ".png"}
		for _, b := range boxes {
			f.Boxes = append(f.Boxes, models.ExpectedBox{Class: b.Class, Confidence: b.Confidence,
				Box: models.ExpectedPos{X: b.Box[0] * byX, Y: b.Box[1] * byY, W: b.Box[2] * byX, H: b.Box[3] * byY}})
		}
		g.Frames = append(g.Frames, f)
	}
	text, err := json.Marshal(g)
	if err != nil {
		t.Fatal(err)
	}
	dir["golden.json"] = &fstest.MapFile{Data: text}
	return dir
}

// TestExportedModelsPassTheirGoldenFrames gates each form of export, prepared as
// it was trained, on what an independent decoder found.
func TestExportedModelsPassTheirGoldenFrames(t *testing.T) {
	for _, name := range exportedModels(t) {
		t.Run(name, func(t *testing.T) {
			want := readExported(t, name)
			d := openExported(t, name, nil)
			dir := exportedGolden(t, want, d.shape.prep.Letterbox == head.LetterboxStretch)
			g, err := models.RunGate(t.Context(), dir, d, time.Now())
			if err != nil || g.Frames != len(want.Frames) || g.Boxes < 2 {
				t.Errorf("got %+v, %v", g, err)
			}
		})
	}
}

// TestEveryPlacementIsExpectedGatedAndBenched takes each graph through what
// looks at stored pictures, with each way to place them.
func TestEveryPlacementIsExpectedGatedAndBenched(t *testing.T) {
	for _, name := range exportedModels(t) {
		for _, placed := range []head.Letterbox{head.LetterboxTopLeft, head.LetterboxCentre, head.LetterboxStretch} {
			if name == "efficient-nms" && placed != head.LetterboxCentre {
				continue // its own suppression has 30 rows, and does not stop there
			}
			t.Run(name+"/"+string(placed), func(t *testing.T) {
				d := openExported(t, name, func(o *Options) { o.File, o.Floor = replaced(t, o.ModelPath, placed), 0.25 })
				if d.shape.prep.Letterbox != placed {
					t.Fatalf("it is prepared with %v", d.shape.prep)
				}
				dir := exportedGolden(t, readExported(t, name), false) // of which one fills the input in no direction
				delete(dir, "golden.json")
				g, err := models.Expect(t.Context(), dir, d, 0.25)
				if err != nil {
					t.Fatal(err)
				}
				text, err := json.Marshal(g)
				if err != nil {
					t.Fatal(err)
				}
				dir["golden.json"] = &fstest.MapFile{Data: text}
				if out, err := models.RunGate(t.Context(), dir, d, time.Now()); err != nil || out.Frames != 2 || out.Boxes < 2 {
					t.Errorf("got %+v, %v", out, err)
				}
				if f, err := models.Bench(t.Context(), dir, d, 0); err != nil || f.Frames < 1 || f.Frame != g.Frames[0].File {
					t.Errorf("got %+v, %v", f, err)
				}
			})
		}
	}
}

// replaced is the model file of a graph with another placement.
func replaced(t *testing.T, model string, by head.Letterbox) *modelfile.File {
	t.Helper()
	f, err := modelfile.Find(model)
	if err != nil || f == nil {
		t.Fatal(f, err)
	}
	pad := byte(114)
	f.Letterbox, f.Pad = by, &pad
	return f
}
