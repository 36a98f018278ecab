package models

import (
	"bytes"
	"fmt"
	"image"
	"image/draw"
	_ "image/jpeg" // golden frames are one of these
	_ "image/png"  // or these
	"io"
	"io/fs"

	"outstation/vision"
)

// picture is a stored picture as a frame: RGBA, 8 bits a channel.
type picture struct {
	pixels        []byte
	width, height int
}

var (
	_ vision.Image     = (*picture)(nil)
	_ vision.Stretcher = (*picture)(nil)
)

// readPicture decodes a PNG or a JPEG, after it has looked at its size.
func readPicture(dir fs.FS, name string) (*picture, error) {
	f, err := dir.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxPicture+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxPicture {
		return nil, fmt.Errorf("%s: %w: a picture has at most %d bytes", name, ErrTooLarge, maxPicture)
	}
	cfg, _, err := image.DecodeConfig(bytes.NewReader(b))
	if err != nil {
		return nil, fmt.Errorf("%s: expected a PNG or JPEG: %w", name, err)
	}
	if min(cfg.Width, cfg.Height) < 1 || max(cfg.Width, cfg.Height) > maxSide {
		return nil, fmt.Errorf("%s: expected sides of 1 to %d pixels, got %d×%d", name, maxSide, cfg.Width, cfg.Height)
	}
	m, _, err := image.Decode(bytes.NewReader(b))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	rgba := image.NewRGBA(image.Rect(0, 0, cfg.Width, cfg.Height))
	draw.Draw(rgba, rgba.Bounds(), m, m.Bounds().Min, draw.Src)
	return &picture{rgba.Pix, cfg.Width, cfg.Height}, nil
}

// frame is the picture as a detector takes it.
func (p *picture) frame() vision.Frame {
	return vision.Frame{Width: p.width, Height: p.height, Image: p}
}

// Close does nothing: the garbage collector has the pixels.
func (p *picture) Close() {}

// Letterbox scales bilinearly between the centres of pixels, as cameras' frames
// are scaled.
func (p *picture) Letterbox(dst []byte, width, height int, pad byte) (float64, error) {
	if width <= 0 || height <= 0 || len(dst) < width*height*3 {
		return 0, fmt.Errorf("models: letterbox of %d×%d into %d bytes, want at least %d", width, height, len(dst), width*height*3)
	}
	w, h, scale := vision.Fit(p.width, p.height, width, height)
	for y := range height {
		row := dst[y*width*3 : (y+1)*width*3]
		if y < h {
			p.row(row[:w*3], y, w, h)
			row = row[w*3:]
		}
		for i := range row {
			row[i] = pad
		}
	}
	return scale, nil
}

// Stretch scales as Letterbox does, and each direction by itself.
func (p *picture) Stretch(dst []byte, width, height int) error {
	if width <= 0 || height <= 0 || len(dst) < width*height*3 {
		return fmt.Errorf("models: stretch to %d×%d into %d bytes, want at least %d", width, height, len(dst), width*height*3)
	}
	for y := range height {
		p.row(dst[y*width*3:(y+1)*width*3], y, width, height)
	}
	return nil
}

// row writes row y of the picture scaled to w×h, in blue, green, red.
func (p *picture) row(dst []byte, y, w, h int) {
	y0, y1, fy := between(y, p.height, h)
	for x := range w {
		x0, x1, fx := between(x, p.width, w)
		for c := range 3 {
			at := func(x, y int) float64 { return float64(p.pixels[4*(y*p.width+x)+2-c]) }
			top := at(x0, y0)*(1-fx) + at(x1, y0)*fx
			low := at(x0, y1)*(1-fx) + at(x1, y1)*fx
			dst[3*x+c] = byte(top*(1-fy) + low*fy + 0.5)
		}
	}
}

// between says between which two of n pixels the centre of pixel i of m lies,
// and how far from the first, in [0, 1).
func between(i, n, m int) (a, b int, f float64) {
	at := max((float64(i)+0.5)*float64(n)/float64(m)-0.5, 0)
	a = min(int(at), n-1)
	return a, min(a+1, n-1), at - float64(a)
}
