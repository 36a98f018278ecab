//go:build !novision

package onnx

import (
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	ort "github.com/yalue/onnxruntime_go"

	"outstation/vision"
	"outstation/vision/head"
)

// memory is what sessions of a model read and write, made once for as many
// pictures as one run may have. prepare writes a picture, and outputs says what
// the model said of it.
type memory struct {
	shape    shape
	pictures int           // how many it holds
	pixels   []byte        // where a frame is letterboxed that cannot be in place: BGR rows and the slack
	inPlace  *values[byte] // the input's memory, where its pictures are what letterbox makes
	writer   writer
	input    func(size int, dims []int) (ort.Value, error) // the tensor of the first pictures
	sizes    []int64                                       // of SizesInput: width and height for each picture
	outs     []output
	decoded  []head.Tensor // what outputs returns
	pinner   runtime.Pinner
	tensors  []ort.Value
}

func newMemory(s shape, pictures int) (*memory, error) {
	m := &memory{shape: s, pictures: pictures, decoded: make([]head.Tensor, len(s.outputs))}
	m.pixels = make([]byte, 3*s.width*s.height+s.slack())
	for range pictures {
		m.sizes = append(m.sizes, int64(s.width), int64(s.height))
	}
	m.pinner.Pin(&m.sizes[0])
	switch s.inputs[s.image].Type {
	case head.Uint8:
		v := newValues(s, pictures, func(v float64) uint8 { return uint8(v) })
		if m.writer = v; !v.planar && !v.swap {
			m.inPlace = v
		}
		m.input = fixed(m, v.memory)
	case head.Float16:
		v := newValues(s, pictures, func(v float64) uint16 { return toHalf(float32(v)) })
		m.writer, m.input = v, halves(m, v.memory)
	default:
		v := newValues(s, pictures, func(v float64) float32 { return float32(v) })
		m.writer, m.input = v, fixed(m, v.memory)
		if s.planar && !v.swap && s.prep.Raw() {
			m.writer = plain(v.memory)
		}
	}
	for _, p := range s.outputs {
		out, err := m.output(p)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("output %v: %w", p, err), m.close())
		}
		m.outs = append(m.outs, out)
	}
	return m, nil
}

// fixed pins memory for the life of m, since ONNX Runtime keeps a pointer to
// it, and returns what makes a tensor of its beginning: of size pictures of
// these dimensions.
func fixed[T ort.TensorData](m *memory, all []T) func(size int, dims []int) (ort.Value, error) {
	m.pinner.Pin(&all[0])
	return func(size int, dims []int) (ort.Value, error) {
		shape := shapeOf(size, dims)
		t, err := ort.NewTensor(shape, all[:shape.FlattenedSize()])
		return m.keep(t, err, shape)
	}
}

// halves is fixed for float16, which the library knows only as bytes.
func halves(m *memory, all []uint16) func(size int, dims []int) (ort.Value, error) {
	m.pinner.Pin(&all[0])
	bytes := unsafe.Slice((*byte)(unsafe.Pointer(&all[0])), 2*len(all))
	return func(size int, dims []int) (ort.Value, error) {
		shape := shapeOf(size, dims)
		t, err := ort.NewCustomDataTensor(shape, bytes[:2*shape.FlattenedSize()], ort.TensorElementDataTypeFloat16)
		return m.keep(t, err, shape)
	}
}

func (m *memory) keep(t ort.Value, err error, shape ort.Shape) (ort.Value, error) {
	if err != nil {
		return nil, fmt.Errorf("tensor %v: %w", shape, err)
	}
	m.tensors = append(m.tensors, t)
	return t, nil
}

func shapeOf(size int, dims []int) ort.Shape {
	s := ort.Shape{int64(size)}
	for _, d := range dims {
		s = append(s, int64(d))
	}
	return s
}

// values are the tensors of a session for size pictures, the first ones of the
// memory. An output is nil that the session has to allocate in each run.
func (m *memory) values(size int) (ins, outs []ort.Value, err error) {
	s := m.shape
	for i, p := range s.inputs {
		var in ort.Value
		switch {
		case i != s.image:
			t, e := ort.NewTensor(ort.NewShape(int64(size), 2), m.sizes[:2*size])
			in, err = m.keep(t, e, ort.NewShape(int64(size), 2))
		case s.planar:
			in, err = m.input(size, []int{3, s.height, s.width})
		default:
			in, err = m.input(size, []int{s.height, s.width, 3})
		}
		if err != nil {
			return nil, nil, fmt.Errorf("input %v: %w", p, err)
		}
		ins = append(ins, in)
	}
	for i := range m.outs {
		var out ort.Value
		if o := &m.outs[i]; o.tensor != nil {
			if out, err = o.tensor(size, o.dims); err != nil {
				return nil, nil, fmt.Errorf("output %v: %w", s.outputs[i], err)
			}
		}
		outs = append(outs, out)
	}
	return ins, outs, nil
}

// prepare makes picture i a frame, and says where in the picture that lies.
func (m *memory) prepare(i int, f vision.Frame) (head.Placement, error) {
	s := &m.shape
	at := s.prep.Letterbox.Place(f.Width, f.Height, s.width, s.height)
	at.Image = i
	size := 3 * s.width * s.height
	if m.inPlace != nil && at.X == 0 {
		return s.letterbox(m.inPlace.memory[i*size:(i+1)*size], f, at)
	}
	at, err := s.letterbox(m.pixels, f, at)
	if err == nil {
		m.writer.write(i, m.pixels[:size])
	}
	return at, err
}

// ran takes over what a session for size pictures has allocated in its run.
func (m *memory) ran(s session, size int) error {
	v, ok := s.(*varying)
	if !ok {
		return nil
	}
	for i := range m.outs {
		if o := &m.outs[i]; o.tensor == nil {
			if err := o.allocated(v.outs[i], size); err != nil {
				return fmt.Errorf("output %v: %w", m.shape.outputs[i], err)
			}
		}
	}
	return nil
}

// outputs is what the model said of picture i in the last run, valid until the
// next call.
func (m *memory) outputs(i int) []head.Tensor {
	for j := range m.outs {
		m.decoded[j] = m.outs[j].of(i)
	}
	return m.decoded
}

// close frees the tensors, when no session uses them any more.
func (m *memory) close() error {
	var errs []error
	for _, t := range m.tensors {
		errs = append(errs, t.Destroy())
	}
	m.tensors = nil
	m.pinner.Unpin()
	return errors.Join(errs...)
}
