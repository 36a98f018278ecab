package vision

import "time"

// The filter of a track is that of ByteTrack and DeepSORT (Wojke et al. 2017,
// "Simple Online and Realtime Tracking with a Deep Association Metric",
// arXiv:1703.07402, section 2.1): constant velocity of a box's centre, aspect
// and height, with noise in proportion to the height. Its matrices couple
// nothing but each value with its own velocity, so that it falls apart into
// four filters of two variables, which is what is computed here.
const (
	noisePosition = 1.0 / 20  // of the height
	noiseVelocity = 1.0 / 160 // of the height
	noiseAspect   = 1e-2
	noiseAspectV  = 1e-5
	noiseAspectZ  = 1e-1 // of a measured aspect

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

// motion is where a box is thought to be: centre, aspect (width over height)
// and height, in pixels.
type motion struct{ cx, cy, aspect, h axis }

// newMotion starts from one measured box, at rest.
func newMotion(b Box) motion {
	start := func(x, sd, sdv float64) axis { return axis{x: x, xx: sd * sd, vv: sdv * sdv} }
	p, v := 2*noisePosition*b.H, 10*noiseVelocity*b.H
	return motion{
		cx: start(b.X+b.W/2, p, v), cy: start(b.Y+b.H/2, p, v),
		aspect: start(b.W/b.H, noiseAspect, noiseAspectV), h: start(b.H, p, v),
	}
}

// predict moves the box on by dt.
func (m *motion) predict(dt time.Duration) {
	t := max(dt.Seconds()/frameTime.Seconds(), 0)
	p, v := noisePosition*m.h.x, noiseVelocity*m.h.x
	m.cx.predict(t, p*p, v*v)
	m.cy.predict(t, p*p, v*v)
	m.aspect.predict(t, noiseAspect*noiseAspect, noiseAspectV*noiseAspectV)
	m.h.predict(t, p*p, v*v)
}

// correct takes in a measured box.
func (m *motion) correct(b Box) {
	r := noisePosition * m.h.x
	m.cx.correct(b.X+b.W/2, r*r)
	m.cy.correct(b.Y+b.H/2, r*r)
	m.aspect.correct(b.W/b.H, noiseAspectZ*noiseAspectZ)
	m.h.correct(b.H, r*r)
}

// box is the box that the motion stands for. A height or aspect that was
// extrapolated to nothing gives an empty box.
func (m *motion) box() Box {
	h := max(m.h.x, 0)
	w := max(m.aspect.x, 0) * h
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
