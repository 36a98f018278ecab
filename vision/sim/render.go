package sim

import (
	"fmt"
	"math"
	"sync"

	"outstation/vision"
)

// lineImage is one frame of a line. It is drawn when it is first asked for.
type lineImage struct {
	line  *Line
	index int64
	drawn *canvas
}

var _ vision.Image = (*lineImage)(nil)

// Image is a frame of the line. Nothing is drawn before its first use.
func (l *Line) Image(index int64) vision.Image { return &lineImage{line: l, index: index} }

// canvas is a drawn frame.
type canvas struct {
	luma  []byte // width×height
	brown []byte // width×height, how brown a pixel is; zero but for stains
	parts []placed
	gain  []int32
}

type canvasPool struct{ sync.Pool }

func (p *canvasPool) take(l *Line) *canvas {
	if c, ok := p.Get().(*canvas); ok {
		return c
	}
	n := l.opts.Width * l.opts.Height
	return &canvas{luma: make([]byte, n), brown: make([]byte, n), gain: make([]int32, l.opts.Width)}
}

// Close gives the pixels back.
func (m *lineImage) Close() {
	if m.drawn != nil {
		m.drawn.clear(m.line.opts.Width, m.line.opts.Height)
		m.line.pool.Put(m.drawn)
		m.drawn = nil
	}
}

// Letterbox draws the frame and scales it bilinearly.
func (m *lineImage) Letterbox(dst []byte, width, height int, pad byte) (float64, error) {
	if width <= 0 || height <= 0 || len(dst) < width*height*3 {
		return 0, fmt.Errorf("sim: letterbox of %d×%d into %d bytes, want at least %d", width, height, len(dst), width*height*3)
	}
	if m.drawn == nil {
		m.drawn = m.line.pool.take(m.line)
		m.line.render(m.drawn, m.index)
	}
	l := m.line
	w, h, scale := vision.Fit(l.opts.Width, l.opts.Height, width, height)
	for y := range h {
		row := dst[y*width*3 : (y+1)*width*3]
		l.scaleRow(row[:w*3], m.drawn, y, w, h)
		fill(row[w*3:], pad)
	}
	fill(dst[h*width*3:height*width*3], pad)
	return scale, nil
}

// render draws one frame: the belt, the parts, then light and noise.
func (l *Line) render(c *canvas, index int64) {
	w := l.opts.Width
	moved := int(math.Mod(math.Round(l.travelled(index)*l.scale), float64(l.belt.period)))
	for y := range l.opts.Height {
		l.belt.scroll(c.luma[y*w:(y+1)*w], y, moved)
	}
	c.parts = l.place(index)
	for _, p := range c.parts {
		c.blit(p, w, l.opts.Height)
	}
	l.expose(c, index)
}

// blit puts a part on the belt.
func (c *canvas) blit(p placed, w, h int) {
	s := p.sprite
	x0, x1 := max(-p.x, 0), min(s.w, w-p.x)
	for y := max(-p.y, 0); y < min(s.h, h-p.y); y++ {
		dst := c.luma[(p.y+y)*w+p.x+x0 : (p.y+y)*w+p.x+x1]
		luma, alpha := s.luma[y*s.w+x0:][:len(dst)], s.alpha[y*s.w+x0:][:len(dst)]
		for i := range dst {
			a := uint32(alpha[i])
			dst[i] = byte((uint32(dst[i])*(255-a) + uint32(luma[i])*a + 127) / 255)
		}
		brown := c.brown[(p.y+y)*w+p.x+x0:][:len(dst)]
		if s.tint != nil {
			copy(brown, s.tint[y*s.w+x0:])
			continue
		}
		for i := range brown {
			if alpha[i] > 127 {
				brown[i] = 0 // what lies below is hidden
			}
		}
	}
}

// clear takes the stains away, the only thing that a next frame would inherit.
func (c *canvas) clear(w, h int) {
	for _, p := range c.parts {
		if p.sprite.tint == nil {
			continue
		}
		x0, x1 := max(p.x, 0), min(p.x+p.sprite.w, w)
		for y := max(p.y, 0); y < min(p.y+p.sprite.h, h); y++ {
			clear(c.brown[y*w+x0 : y*w+x1])
		}
	}
}

// gainOne is a gain of 1 in fixed point.
const gainOne = 1 << 8

// clamp maps a level, from -128 on, to a byte.
var clamp = func() (t [1024]byte) {
	for i := range t {
		t[i] = byte(min(max(i-128, 0), 255))
	}
	return t
}()

// expose applies the light of that moment and the sensor's noise.
func (l *Line) expose(c *canvas, index int64) {
	w := l.opts.Width
	seconds := float64(index) / l.opts.FPS
	r := l.random(streamFrame, index)
	light := 1 + l.look.drift[0].at(seconds) + l.look.drift[1].at(seconds) + 0.005*r.NormFloat64()
	slope := l.look.slope.at(seconds)
	for x := range c.gain {
		c.gain[x] = int32(gainOne * light * (1 + slope*(float64(x)/float64(w)-0.5)))
	}
	for y := range l.opts.Height {
		row := c.luma[y*w:][:w]
		noise := l.belt.noise[r.Uint32()%noiseLength:][:w]
		gain := c.gain[:w]
		for x, v := range row {
			row[x] = clamp[(int32(v)*gain[x]>>8+int32(noise[x])+128)&1023]
		}
	}
}

// How much of blue, green and red a stain takes away at full strength.
var stainTint = [3]int32{52, 20, 0}

// scaleRow is row y of the frame scaled to w×h, bilinearly with pixel centres
// aligned, as OpenCV's INTER_LINEAR does, in blue, green and red.
func (l *Line) scaleRow(dst []byte, c *canvas, y, w, h int) {
	tint := [3]int32{int32(256 * l.look.tint[0]), int32(256 * l.look.tint[1]), int32(256 * l.look.tint[2])}
	if w == l.opts.Width && h == l.opts.Height {
		at := y * w
		for x := range w {
			paint(dst[3*x:3*x+3], int32(c.luma[at+x])<<8, int32(c.brown[at+x]), &tint)
		}
		return
	}
	y0, y1, fy := sample(y, h, l.opts.Height)
	upper, lower := c.luma[y0*l.opts.Width:][:l.opts.Width], c.luma[y1*l.opts.Width:][:l.opts.Width]
	brown := c.brown[(y0+y1)/2*l.opts.Width:][:l.opts.Width]
	for x := range w {
		x0, x1, fx := sample(x, w, l.opts.Width)
		top := int32(upper[x0])*(16-fx) + int32(upper[x1])*fx
		bottom := int32(lower[x0])*(16-fx) + int32(lower[x1])*fx
		paint(dst[3*x:3*x+3], top*(16-fy)+bottom*fy, int32(brown[x0]), &tint)
	}
}

// paint writes one pixel from its luma, in 1/256 levels, and its brownness.
func paint(dst []byte, luma, brown int32, tint *[3]int32) {
	_ = dst[2]
	if brown == 0 {
		dst[0] = byte(luma * tint[0] >> 16)
		dst[1] = byte(luma * tint[1] >> 16)
		dst[2] = byte(luma * tint[2] >> 16)
		return
	}
	for i := range 3 {
		dst[i] = byte(max(luma*tint[i]>>16-stainTint[i]*brown*(luma>>8)>>16, 0))
	}
}

// sample is where pixel i of n falls in a row of size pixels: between two of
// them, by sixteenths from the first.
func sample(i, n, size int) (a, b int, fraction int32) {
	at := ((2*i+1)*size*8)/n - 8 // in sixteenths
	at = min(max(at, 0), (size-1)*16)
	a = at / 16
	return a, min(a+1, size-1), int32(at % 16)
}
