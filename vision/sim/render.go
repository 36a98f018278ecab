package sim

import (
	"encoding/binary"
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

// canvas is a frame of which each row is drawn when it is first asked for: a
// detector's picture is smaller and needs only some of them.
type canvas struct {
	line  *Line
	luma  []byte // width×height
	brown []byte // width×height, how brown a pixel is; zero but for stains
	drawn []bool // rows
	noise []int  // of each row, where its noise begins
	parts []placed
	moved int     // by how many pixels the belt has
	gain  []int32 // of each column

	tint    [3]int32    // of the light, in blue, green and red
	tones   [256]uint32 // the colour of each luma without a stain: blue, green and red from the lowest byte
	columns []column    // of the size that is asked for now

	whole []byte // the frame in BGR, of which parts are made; empty until one is asked for

	quarters [4 * 256]uint32 // the same of the sum of four lumas, for their mean
}

type canvasPool struct{ sync.Pool }

func (p *canvasPool) take(l *Line) *canvas {
	if c, ok := p.Get().(*canvas); ok {
		return c
	}
	w, h := l.opts.Width, l.opts.Height
	c := &canvas{line: l, luma: make([]byte, w*h), brown: make([]byte, w*h), drawn: make([]bool, h), noise: make([]int, h), gain: make([]int32, w)}
	for i := range c.tint {
		c.tint[i] = int32(256 * l.look.tint[i])
	}
	var pixel [4]byte
	for luma := range c.tones {
		c.paint(pixel[:3], int32(luma)<<8, 0)
		c.tones[luma] = binary.LittleEndian.Uint32(pixel[:])
	}
	for sum := range c.quarters {
		c.paint(pixel[:3], int32(sum)<<6, 0)
		c.quarters[sum] = binary.LittleEndian.Uint32(pixel[:])
	}
	return c
}

// Close gives the pixels back.
func (m *lineImage) Close() {
	if m.drawn != nil {
		m.line.pool.Put(m.drawn)
		m.drawn = nil
	}
}

// Letterbox draws the frame and scales it bilinearly.
func (m *lineImage) Letterbox(dst []byte, width, height int, pad byte) (float64, error) {
	if width <= 0 || height <= 0 || len(dst) < width*height*3 {
		return 0, fmt.Errorf("sim: letterbox of %d×%d into %d bytes, want at least %d", width, height, len(dst), width*height*3)
	}
	w, h, scale := vision.Fit(m.line.opts.Width, m.line.opts.Height, width, height)
	m.draw(dst, width, w, h, pad)
	fill(dst[h*width*3:height*width*3], pad)
	return scale, nil
}

// Stretch draws the frame and scales it bilinearly.
func (m *lineImage) Stretch(dst []byte, width, height int) error {
	if width <= 0 || height <= 0 || len(dst) < width*height*3 {
		return fmt.Errorf("sim: stretch to %d×%d into %d bytes, want at least %d", width, height, len(dst), width*height*3)
	}
	m.draw(dst, width, width, height, 0)
	return nil
}

// draw writes the frame as w×h pixels into rows of width, whose rest is pad.
func (m *lineImage) draw(dst []byte, width, w, h int, pad byte) {
	l := m.line
	m.begin()
	whole := w == l.opts.Width && h == l.opts.Height
	if !whole {
		m.drawn.sampleColumns(w, l.opts.Width)
	}
	for y := range h {
		row := dst[y*width*3 : (y+1)*width*3]
		if whole {
			m.drawn.copyRow(row[:w*3], y)
		} else {
			m.drawn.scaleRow(row[:w*3], y, h)
		}
		fill(row[w*3:], pad)
	}
}

// begin gives the image a canvas, if it has none.
func (m *lineImage) begin() {
	if m.drawn == nil {
		m.drawn = m.line.pool.take(m.line)
		m.drawn.begin(m.index)
	}
}

// begin makes the canvas that of a frame with no row drawn.
func (c *canvas) begin(index int64) {
	l := c.line
	c.moved = int(math.Mod(math.Round(l.travelled(index)*l.scale), float64(l.belt.period)))
	c.parts = l.place(index)
	c.light(index)
	clear(c.drawn)
	c.whole = c.whole[:0]
}

// row returns the luma and brownness of a row: the belt, the parts, then light
// and noise.
func (c *canvas) row(y int) (luma, brown []byte) {
	w := c.line.opts.Width
	luma, brown = c.luma[y*w:][:w], c.brown[y*w:][:w]
	if c.drawn[y] {
		return luma, brown
	}
	c.drawn[y] = true
	c.line.belt.scroll(luma, y, c.moved)
	clear(brown)
	for _, p := range c.parts {
		if y >= p.y && y < p.y+p.sprite.h {
			p.blit(luma, brown, y-p.y)
		}
	}
	c.expose(luma, c.line.belt.noise[c.noise[y]:][:w])
	return luma, brown
}

// blit puts row y of a part on a row of the frame.
func (p placed) blit(luma, brown []byte, y int) {
	s := p.sprite
	x0, x1 := max(-p.x, 0), min(s.w, len(luma)-p.x)
	luma, brown = luma[p.x+x0:p.x+x1], brown[p.x+x0:p.x+x1]
	surface, alpha := s.luma[y*s.w+x0:][:len(luma)], s.alpha[y*s.w+x0:][:len(luma)]
	for i := range luma {
		a := uint32(alpha[i])
		luma[i] = byte((uint32(luma[i])*(255-a) + uint32(surface[i])*a + 127) / 255)
	}
	for i := range brown {
		switch {
		case alpha[i] <= 127: // what lies below is seen
		case s.tint == nil:
			brown[i] = 0
		default:
			brown[i] = s.tint[y*s.w+x0+i]
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

// light sets the light of a frame, and where the noise of each row begins.
func (c *canvas) light(index int64) {
	l := c.line
	seconds := float64(index) / l.opts.FPS
	r := l.random(streamFrame, index)
	light := 1 + l.look.drift[0].at(seconds) + l.look.drift[1].at(seconds) + 0.005*r.NormFloat64()
	slope := l.look.slope.at(seconds)
	for x := range c.gain {
		c.gain[x] = int32(gainOne * light * (1 + slope*(float64(x)/float64(l.opts.Width)-0.5)))
	}
	for y := range c.noise {
		c.noise[y] = int(r.Uint32() % noiseLength)
	}
}

// expose applies the light and the sensor's noise to a row.
func (c *canvas) expose(row []byte, noise []int8) {
	gain := c.gain[:len(row)]
	noise = noise[:len(row)]
	for x, v := range row {
		row[x] = clamp[(int32(v)*gain[x]>>8+int32(noise[x])+128)&1023]
	}
}

// How much of blue, green and red a stain takes away at full strength, in
// 1/256. Brown leaves the luma alone (ITU-R BT.601), so that the contrast of a
// stain is that of its shade.
var stainTint = [3]int32{34, 2, -17}

// copyRow is row y of the frame as it is, in blue, green and red.
func (c *canvas) copyRow(dst []byte, y int) {
	luma, brown := c.row(y)
	last := len(luma) - 1
	for x, v := range luma[:last] {
		binary.LittleEndian.PutUint32(dst[3*x:], c.tones[v]) // the next pixel mends the fourth byte
	}
	c.paint(dst[3*last:], int32(luma[last])<<8, int32(brown[last]))
	for _, p := range c.parts {
		if p.sprite.tint == nil || y < p.y || y >= p.y+p.sprite.h {
			continue
		}
		for x := max(p.x, 0); x < min(p.x+p.sprite.w, len(luma)); x++ {
			if brown[x] != 0 {
				c.paint(dst[3*x:3*x+3], int32(luma[x])<<8, int32(brown[x]))
			}
		}
	}
}

// scaleRow is row y of the frame scaled to h rows and as many columns as were
// sampled, bilinearly with pixel centres aligned, as OpenCV's INTER_LINEAR
// does, in blue, green and red.
func (c *canvas) scaleRow(dst []byte, y, h int) {
	y0, y1, fy := sample(y, h, c.line.opts.Height)
	upper, _ := c.row(y0)
	lower, _ := c.row(y1)
	_, brown := c.row((y0 + y1) / 2)
	from := 0
	if 2*h == c.line.opts.Height && 2*len(c.columns) == len(upper) {
		from = c.halveRow(dst, upper, lower, brown)
	}
	for x := from; x < len(c.columns); x++ {
		at := c.columns[x]
		top := int32(upper[at.a])*(16-at.fraction) + int32(upper[at.b])*at.fraction
		bottom := int32(lower[at.a])*(16-at.fraction) + int32(lower[at.b])*at.fraction
		c.paint(dst[3*x:3*x+3], top*(16-fy)+bottom*fy, int32(brown[at.a]))
	}
}

// halveRow is scaleRow for half the size, where each pixel is the mean of
// four: three times as fast. It returns how many pixels it wrote, all but the
// last.
func (c *canvas) halveRow(dst, upper, lower, brown []byte) int {
	n := len(upper)/2 - 1
	upper, lower, brown = upper[:2*n], lower[:2*n], brown[:2*n]
	for x := 0; x < 2*n; x += 2 {
		sum := uint32(upper[x]) + uint32(upper[x+1]) + uint32(lower[x]) + uint32(lower[x+1])
		if brown[x] != 0 {
			c.paint(dst[x/2*3:][:3], int32(sum<<6), int32(brown[x]))
			continue
		}
		binary.LittleEndian.PutUint32(dst[x/2*3:], c.quarters[sum&1023]) // the next pixel mends the fourth byte
	}
	return n
}

// paint writes one pixel from its luma, in 1/256 levels, and its brownness.
func (c *canvas) paint(dst []byte, luma, brown int32) {
	_ = dst[2]
	if brown == 0 {
		dst[0] = byte(luma * c.tint[0] >> 16)
		dst[1] = byte(luma * c.tint[1] >> 16)
		dst[2] = byte(luma * c.tint[2] >> 16)
		return
	}
	for i := range 3 {
		dst[i] = byte(min(max(luma*c.tint[i]>>16-stainTint[i]*brown*(luma>>8)>>16, 0), 255))
	}
}

// column is where a column of a scaled frame falls: between two of the
// frame's, by sixteenths from the first.
type column struct {
	a, b     int
	fraction int32
}

// sampleColumns finds the places of n columns in a frame that is width wide.
func (c *canvas) sampleColumns(n, width int) {
	c.columns = c.columns[:0]
	for x := range n {
		a, b, fraction := sample(x, n, width)
		c.columns = append(c.columns, column{a, b, fraction})
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
