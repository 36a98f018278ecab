//go:build !novision

package capture

import (
	"fmt"
	"image"
	"sync"

	"gocv.io/x/gocv"

	"outstation/vision"
)

// Image is a frame in a Mat of its source's pool: BGR, 8 bits a channel.
type Image struct {
	mat   gocv.Mat // the frame
	small gocv.Mat // the letterbox's picture; kept so that OpenCV need not allocate it again
	part  *Image   // see Crop; nil until there was one
	pool  *pool
	out   bool // not in the pool
}

var (
	_ vision.Image     = (*Image)(nil)
	_ vision.Stretcher = (*Image)(nil)
)

// Mat is the frame's own Mat: read-only, and valid until Close.
func (m *Image) Mat() gocv.Mat { return m.mat }

// Letterbox scales bilinearly, as YOLOX's own preprocessing does.
func (m *Image) Letterbox(dst []byte, width, height int, pad byte) (float64, error) {
	if width <= 0 || height <= 0 || len(dst) < width*height*3 {
		return 0, fmt.Errorf("capture: letterbox of %d×%d into %d bytes, want at least %d", width, height, len(dst), width*height*3)
	}
	w, h, scale := vision.Fit(m.mat.Cols(), m.mat.Rows(), width, height)
	pixels, err := m.scaled(w, h)
	if err != nil {
		return 0, err
	}
	place(dst[:width*height*3], width*3, pixels, w*3, pad)
	return scale, nil
}

// Stretch scales bilinearly, as Letterbox does.
func (m *Image) Stretch(dst []byte, width, height int) error {
	if width <= 0 || height <= 0 || len(dst) < width*height*3 {
		return fmt.Errorf("capture: stretch to %d×%d into %d bytes, want at least %d", width, height, len(dst), width*height*3)
	}
	pixels, err := m.scaled(width, height)
	copy(dst, pixels)
	return err
}

// scaled is the frame at another size, until the next call.
func (m *Image) scaled(w, h int) ([]byte, error) {
	if err := gocv.Resize(m.mat, &m.small, image.Pt(w, h), 0, 0, gocv.InterpolationLinear); err != nil {
		return nil, fmt.Errorf("capture: scaling %d×%d to %d×%d: %w", m.mat.Cols(), m.mat.Rows(), w, h, err)
	}
	pixels, err := m.small.DataPtrUint8()
	if err != nil {
		return nil, fmt.Errorf("capture: scaled frame: %w", err)
	}
	return pixels[:w*h*3], nil
}

// place copies rows of length from to the top left of rows of length to, and
// fills the rest.
func place(dst []byte, to int, src []byte, from int, pad byte) {
	if to == from {
		fill(dst[copy(dst, src):], pad)
		return
	}
	for len(src) > 0 {
		fill(dst[copy(dst, src[:from]):to], pad)
		dst, src = dst[to:], src[from:]
	}
	fill(dst, pad)
}

func fill(b []byte, v byte) {
	if len(b) == 0 {
		return
	}
	b[0] = v
	for n := 1; n < len(b); n *= 2 {
		copy(b[n:], b[:n])
	}
}

// Close returns the Mats to the pool, or frees them when the source is closed.
func (m *Image) Close() {
	if m.out {
		m.out = false
		m.uncrop()
		m.pool.put(m)
	}
}

func (m *Image) free() {
	if m.part != nil {
		m.uncrop()
		m.part.free()
	}
	if !m.mat.Closed() { // a part's is closed with its frame
		m.mat.Close()
	}
	m.small.Close()
}

// pool keeps the images of one source. It never holds more than were in use
// at once: for the Pipeline one being read, one waiting and one inspected. It
// is safe for concurrent use.
type pool struct {
	mu     sync.Mutex
	idle   []*Image
	closed bool
}

func (p *pool) get() *Image {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.idle); n > 0 {
		m := p.idle[n-1]
		p.idle = p.idle[:n-1]
		m.out = true
		return m
	}
	return &Image{mat: gocv.NewMat(), small: gocv.NewMat(), pool: p, out: true}
}

func (p *pool) put(m *Image) {
	p.mu.Lock()
	closed := p.closed
	if !closed {
		p.idle = append(p.idle, m)
	}
	p.mu.Unlock()
	if closed {
		m.free()
	}
}

// close frees the idle images; those in use are freed when they are closed.
func (p *pool) close() {
	p.mu.Lock()
	idle := p.idle
	p.idle, p.closed = nil, true
	p.mu.Unlock()
	for _, m := range idle {
		m.free()
	}
}
