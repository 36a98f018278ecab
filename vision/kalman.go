package vision

import "time"

// The filter of a track is that of BoT-SORT (Aharon et al. 2022,
// arXiv:2206.14651, section 3.1): constant velocity of a box's centre, width
// and height, with noise in proportion to its sides. ByteTrack's own, from
// DeepSORT, has the aspect ratio instead of the width and hardly lets it
// change: what enters the picture at its side is lost half-way. The matrices
// couple nothing but each value with its own velocity, so that the filter
// falls apart into four of two variables, which is what is computed here.
const (
	noisePosition = 1.0 / 20  // of the side, and of a measurement
	noiseVelocity = 1.0 / 160 // of the side

	// frameTime is what the weights above count as one step: they come from
	// videos with 30 frames a second.
	frameTime = time.Second / 30
)

// axis is one value, its velocity a step, and their covariance.
type axis struct{ x, v, xx, xv, vv float64 }

// predict moves the axis on by t steps. Noise of variance qx and qv a step
// adds up over them, so that one step is the filter of the papers.
func (a *axis) predict(t, qx, qv float64) {
	a.x += t * a.v
	a.xx += 2*t*a.xv + t*t*a.vv + t*qx
	a.xv += t * a.vv
	a.vv += t * qv
}

// correct takes in a measurement of x with variance r.
func (a *axis) correct(z, r float64) {
	s := a.xx + r
	kx, kv := a.xx/s, a.xv/s
	d := z - a.x
	a.x += kx * d
	a.v += kv * d
	a.vv -= kv * a.xv
	a.xv -= kx * a.xv
	a.xx -= kx * a.xx
}

// motion is where a box is thought to be: centre and sides, in pixels.
type motion struct{ cx, cy, w, h axis }

// newMotion starts from one measured box, at rest.
func newMotion(b Box) motion {
	start := func(x, side float64) axis {
		p, v := 2*noisePosition*side, 10*noiseVelocity*side
		return axis{x: x, xx: p * p, vv: v * v}
	}
	return motion{cx: start(b.X+b.W/2, b.W), cy: start(b.Y+b.H/2, b.H), w: start(b.W, b.W), h: start(b.H, b.H)}
}

// predict moves the box on by dt.
func (m *motion) predict(dt time.Duration) {
	t := max(dt.Seconds()/frameTime.Seconds(), 0)
	w, h := m.w.x, m.h.x
	step := func(a *axis, side float64) {
		p, v := noisePosition*side, noiseVelocity*side
		a.predict(t, p*p, v*v)
	}
	step(&m.cx, w)
	step(&m.cy, h)
	step(&m.w, w)
	step(&m.h, h)
}

// correct takes in a measured box.
func (m *motion) correct(b Box) {
	w, h := noisePosition*m.w.x, noisePosition*m.h.x
	m.cx.correct(b.X+b.W/2, w*w)
	m.cy.correct(b.Y+b.H/2, h*h)
	m.w.correct(b.W, w*w)
	m.h.correct(b.H, h*h)
}

// box is the box that the motion stands for. A side that was extrapolated to
// nothing gives an empty box.
func (m *motion) box() Box {
	w, h := max(m.w.x, 0), max(m.h.x, 0)
	return Box{X: m.cx.x - w/2, Y: m.cy.x - h/2, W: w, H: h}
}

// overlap is the intersection over union of two boxes, in [0, 1].
func overlap(a, b Box) float64 {
	w := min(a.X+a.W, b.X+b.W) - max(a.X, b.X)
	h := min(a.Y+a.H, b.Y+b.H) - max(a.Y, b.Y)
	if w <= 0 || h <= 0 {
		return 0
	}
	return w * h / (a.W*a.H + b.W*b.H - w*h)
}
