package vision

import (
	"math"
	"math/rand/v2"
	"testing"
)

// matrix is a small dense matrix, for the filter as the papers write it.
type matrix [][]float64

func newMatrix(n, m int) matrix {
	a := make(matrix, n)
	for i := range a {
		a[i] = make([]float64, m)
	}
	return a
}

func (a matrix) times(b matrix) matrix {
	c := newMatrix(len(a), len(b[0]))
	for i := range c {
		for j := range c[i] {
			for k := range b {
				c[i][j] += a[i][k] * b[k][j]
			}
		}
	}
	return c
}

func (a matrix) transposed() matrix {
	c := newMatrix(len(a[0]), len(a))
	for i := range a {
		for j := range a[i] {
			c[j][i] = a[i][j]
		}
	}
	return c
}

func (a matrix) plus(b matrix, sign float64) matrix {
	c := newMatrix(len(a), len(a[0]))
	for i := range a {
		for j := range a[i] {
			c[i][j] = a[i][j] + sign*b[i][j]
		}
	}
	return c
}

// inverse is by Gauss and Jordan, with pivots.
func (a matrix) inverse() matrix {
	n := len(a)
	m := newMatrix(n, 2*n)
	for i := range a {
		copy(m[i], a[i])
		m[i][n+i] = 1
	}
	for i := range n {
		p := i
		for k := i; k < n; k++ {
			if math.Abs(m[k][i]) > math.Abs(m[p][i]) {
				p = k
			}
		}
		m[i], m[p] = m[p], m[i]
		for k := range n {
			if k == i {
				continue
			}
			f := m[k][i] / m[i][i]
			for j := range m[k] {
				m[k][j] -= f * m[i][j]
			}
		}
	}
	out := newMatrix(n, n)
	for i := range n {
		for j := range n {
			out[i][j] = m[i][n+j] / m[i][i]
		}
	}
	return out
}

func diagonal(sd ...float64) matrix {
	a := newMatrix(len(sd), len(sd))
	for i, s := range sd {
		a[i][i] = s * s
	}
	return a
}

// TestMotionIsTheFilterOfThePaper compares the four small filters with one of
// eight variables, at one step a frame.
func TestMotionIsTheFilterOfThePaper(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	F, H := diagonal(1, 1, 1, 1, 1, 1, 1, 1), newMatrix(4, 8)
	for i := range 4 {
		F[i][i+4], H[i][i] = 1, 1
	}
	measure := func(b Box) matrix {
		return matrix{{b.X + b.W/2}, {b.Y + b.H/2}, {b.W}, {b.H}}
	}
	b := Box{X: 100, Y: 50, W: 40, H: 90}
	x := append(measure(b), []float64{0}, []float64{0}, []float64{0}, []float64{0})
	w, h := b.W, b.H
	P := diagonal(w/10, h/10, w/10, h/10, w/16, h/16, w/16, h/16)
	m := newMotion(b)
	for step := range 60 {
		w, h = x[2][0], x[3][0]
		x, P = F.times(x), F.times(P).times(F.transposed()).plus(diagonal(w/20, h/20, w/20, h/20, w/160, h/160, w/160, h/160), 1)
		m.predict(frameTime)
		if step%5 != 3 { // not seen in some
			b = Box{X: b.X + 3 + r.NormFloat64(), Y: b.Y + 1, W: b.W + r.NormFloat64()/4, H: b.H + r.NormFloat64()/4}
			w, h = x[2][0], x[3][0]
			S := H.times(P).times(H.transposed()).plus(diagonal(w/20, h/20, w/20, h/20), 1)
			K := P.times(H.transposed()).times(S.inverse())
			x = x.plus(K.times(measure(b).plus(H.times(x), -1)), 1)
			P = P.plus(K.times(S).times(K.transposed()), -1)
			m.correct(b)
		}
		for i, a := range []axis{m.cx, m.cy, m.w, m.h} {
			for _, d := range []float64{a.x - x[i][0], a.v - x[i+4][0], a.xx - P[i][i], a.xv - P[i][i+4], a.vv - P[i+4][i+4]} {
				if !(math.Abs(d) < 1e-6) {
					t.Fatalf("step %d, value %d: %+v differs by %v", step, i, a, d)
				}
			}
		}
	}
	if v := m.cx.v; math.Abs(v-3*4./5) > 0.8 {
		t.Errorf("velocity %v pixels a frame", v)
	}
}

// TestPredictionIsTheSameInPieces: two short steps are one long one but for
// the noise of the velocity in between.
func TestPredictionIsTheSameInPieces(t *testing.T) {
	a := newMotion(Box{X: 10, Y: 10, W: 20, H: 20})
	a.cx.v, a.cy.v = 4, -2
	b := a
	a.predict(4 * frameTime)
	for range 4 {
		b.predict(frameTime)
	}
	if math.Abs(a.cx.x-b.cx.x) > 1e-6 || math.Abs(a.cy.x-b.cy.x) > 1e-6 || math.Abs(a.cx.x-36) > 1e-6 {
		t.Errorf("%v and %v, want 36", a.cx.x, b.cx.x)
	}
	if ratio := a.cx.xx / b.cx.xx; ratio < 0.8 || ratio > 1.25 {
		t.Errorf("variances %v and %v", a.cx.xx, b.cx.xx)
	}
}
