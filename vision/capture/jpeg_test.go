//go:build !novision

package capture

import (
	"bytes"
	"fmt"
	"image"
	"image/jpeg"
	"testing"

	"gocv.io/x/gocv"

	"outstation/vision"
	"outstation/vision/testfiles"
)

// drawn is a w×h image with a gradient and a green bar, in its own pool.
func drawn(tb testing.TB, w, h int) *Image {
	tb.Helper()
	bgr := make([]byte, w*h*3)
	for y := range h {
		for x := range w {
			p := bgr[(y*w+x)*3:]
			p[0], p[1], p[2] = byte(x*255/w), byte(y*255/h), byte((x+y)%256)
		}
	}
	for y := h / 4; y < h/2; y++ {
		for x := w / 4; x < w/2; x++ {
			copy(bgr[(y*w+x)*3:], []byte{0, 255, 0})
		}
	}
	p := &pool{}
	m := p.get()
	m.mat.Close()
	var err error
	if m.mat, err = gocv.NewMatFromBytes(h, w, gocv.MatTypeCV8UC3, bgr); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		m.Close()
		p.close()
	})
	return m
}

// TestAppendJPEG decodes with Go what OpenCV encoded.
func TestAppendJPEG(t *testing.T) {
	m := drawn(t, 640, 360)
	for _, c := range []struct {
		crop image.Rectangle
		side int
		size image.Point
		bar  image.Point // inside of it
		no   image.Point // outside
	}{
		{image.Rectangle{}, 0, image.Pt(640, 360), image.Pt(240, 135), image.Pt(500, 60)},
		{image.Rectangle{}, 320, image.Pt(320, 180), image.Pt(120, 67), image.Pt(250, 30)},
		{image.Rectangle{}, 4000, image.Pt(640, 360), image.Pt(240, 135), image.Pt(500, 60)},
		{image.Rect(150, 80, 350, 190), 0, image.Pt(200, 110), image.Pt(90, 55), image.Pt(190, 5)},
		{image.Rect(150, 80, 350, 190), 100, image.Pt(100, 55), image.Pt(45, 27), image.Pt(95, 2)},
	} {
		b, err := m.AppendJPEG([]byte("before"), c.crop, c.side, 85)
		if err != nil {
			t.Fatal(err)
		}
		got, err := jpeg.Decode(bytes.NewReader(bytes.TrimPrefix(b, []byte("before"))))
		if err != nil {
			t.Fatal(err)
		}
		if got.Bounds().Size() != c.size {
			t.Errorf("crop %v, side %d: %v, want %v", c.crop, c.side, got.Bounds().Size(), c.size)
		}
		if !green(got, c.bar) || green(got, c.no) {
			t.Errorf("crop %v, side %d: the bar is not where it should be", c.crop, c.side)
		}
	}
	if _, err := m.AppendJPEG(nil, image.Rect(600, 300, 700, 400), 0, 85); err == nil {
		t.Error("a part outside of the frame was encoded")
	}
	good, err := m.AppendJPEG(nil, image.Rectangle{}, 0, 95)
	if err != nil {
		t.Fatal(err)
	}
	if small, err := m.AppendJPEG(nil, image.Rectangle{}, 0, 40); err != nil || len(small) >= len(good) {
		t.Errorf("quality 40 has %d bytes, 95 has %d; %v", len(small), len(good), err)
	}
}

func green(m image.Image, p image.Point) bool {
	r, g, b, _ := m.At(p.X, p.Y).RGBA()
	return g>>8 > 220 && r>>8 < 60 && b>>8 < 60
}

// street is the first frame of the recording at another size.
func street(b *testing.B, size image.Point) *Image {
	b.Helper()
	factory, err := Factory(Options{URL: testfiles.Video().Need(b)})
	if err != nil {
		b.Fatal(err)
	}
	src := factory()
	if err := src.Open(b.Context()); err != nil {
		b.Fatal(err)
	}
	f, err := src.Read()
	if err != nil {
		b.Fatal(err)
	}
	m := f.Image.(*Image)
	large := gocv.NewMat()
	if err := gocv.Resize(m.mat, &large, size, 0, 0, gocv.InterpolationCubic); err != nil {
		b.Fatal(err)
	}
	m.mat.Close()
	m.mat = large
	b.Cleanup(func() {
		m.Close()
		if err := src.Close(); err != nil {
			b.Error(err)
		}
	})
	return m
}

// BenchmarkAppendJPEG is what a snapshot of a street costs: a frame of the
// recording, scaled up to a camera's size.
func BenchmarkAppendJPEG(b *testing.B) {
	for _, size := range []image.Point{{1280, 720}, {1920, 1080}} {
		m := street(b, size)
		for _, side := range []int{0, 1280} {
			b.Run(fmt.Sprintf("%dx%d to %d", size.X, size.Y, side), func(b *testing.B) {
				var dst []byte
				var err error
				for b.Loop() {
					if dst, err = m.AppendJPEG(dst[:0], image.Rectangle{}, side, vision.DefaultSnapshotQuality); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(len(dst)), "bytes")
			})
		}
	}
}
