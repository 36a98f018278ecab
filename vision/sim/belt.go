package sim

import (
	"math"
	"math/rand/v2"
)

// look is what makes one line differ from another: light, lens and camera.
type look struct {
	light    point   // the direction that it comes from, of length 1
	blur     float64 // of motion, in pixels of the geometry
	noise    float64 // of the sensor, standard deviation in levels
	drift    [2]wave // of the light, over time
	slope    wave    // of the light, along the belt
	tint     [3]float64
	beltLuma float64
}

// wave is a slow oscillation.
type wave struct{ amplitude, period, phase float64 }

func (w wave) at(seconds float64) float64 {
	return w.amplitude * math.Sin(2*math.Pi*seconds/w.period+w.phase)
}

// maxBlur bounds the blur of fast lines: they have a shorter exposure.
const maxBlur = 6

func newLook(r *rand.Rand, speed float64) look {
	angle := between(r, 0, 2*math.Pi)
	newWave := func(amplitude, low, high float64) wave {
		return wave{amplitude, between(r, low, high), between(r, 0, 2*math.Pi)}
	}
	return look{
		light: point{math.Cos(angle), math.Sin(angle)},
		blur:  min(speed*between(r, 0.005, 0.011), maxBlur),
		noise: between(r, 1.4, 2.4),
		drift: [2]wave{newWave(0.08, 40, 120), newWave(0.04, 7, 20)},
		slope: newWave(0.08, 50, 150),
		// Blue, green and red of a lamp that is not quite white.
		tint:     [3]float64{between(r, 0.94, 1), 1, between(r, 0.95, 1)},
		beltLuma: between(r, 52, 78),
	}
}

// belt is what is below the parts, and the sensor's noise.
type belt struct {
	period int // pixels after which the belt repeats itself
	top    int // first row of the belt
	bottom int // first row below it
	rows   [][]byte
	noise  []int8
}

const (
	noiseLength = 1 << 16
	beltPeriod  = 1000 // pixels of the geometry
)

func newBelt(r *rand.Rand, l *Line) *belt {
	b := &belt{
		period: max(int(beltPeriod*l.scale), 1),
		top:    int(railWidth * l.scale),
		bottom: l.opts.Height - int(railWidth*l.scale),
		noise:  make([]int8, noiseLength+maxSide),
	}
	for i := range b.noise {
		b.noise[i] = int8(math.Round(min(max(r.NormFloat64()*l.look.noise, -60), 60)))
	}
	for y := range l.opts.Height {
		if y < b.top || y >= b.bottom {
			b.rows = append(b.rows, b.rail(r, y, l))
		} else {
			b.rows = append(b.rows, b.weave(r, y, l))
		}
	}
	return b
}

// rail is a row of the frame beside the belt, which stands still.
func (b *belt) rail(r *rand.Rand, y int, l *Line) []byte {
	row := make([]byte, l.opts.Width)
	from := min(absolute(y-b.top), absolute(y-b.bottom))
	luma := 112 + 14*math.Sin(float64(from)/l.scale/6)
	for x := range row {
		row[x] = byte(luma + 2*r.NormFloat64())
	}
	return row
}

// weave is a row of the belt, with twice its period so that any window of one
// period is a slice of it.
func (b *belt) weave(r *rand.Rand, y int, l *Line) []byte {
	values := make([]float64, b.period)
	for x := range values {
		u, v := float64(x)/l.scale, float64(y)/l.scale
		// 20 pixels divide the period, so that the weave has no seam.
		values[x] = l.look.beltLuma + 4*math.Sin(2*math.Pi*u/20)*math.Sin(2*math.Pi*v/20) + 2.5*r.NormFloat64()
	}
	wrapped := append(append([]float64{}, values...), values...)
	blurRows(wrapped, len(wrapped), l.look.blur*l.scale)
	row := make([]byte, len(wrapped))
	for x := range row { // from the middle: the blur darkened the ends
		row[x] = byte(min(max(wrapped[b.period/2+(x+b.period/2)%b.period], 0), 255))
	}
	return row
}

// scroll copies a row of the belt that has moved by some pixels.
func (b *belt) scroll(dst []byte, y, moved int) {
	row := b.rows[y]
	if y < b.top || y >= b.bottom {
		copy(dst, row)
		return
	}
	at := b.period - moved // in (0, period]
	for len(dst) > 0 {
		n := copy(dst, row[at:])
		dst, at = dst[n:], 0
	}
}

func absolute(v int) int { return max(v, -v) }
