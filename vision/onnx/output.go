//go:build !novision

package onnx

import (
	"errors"
	"fmt"

	ort "github.com/yalue/onnxruntime_go"

	"outstation/vision/head"
)

// output is the memory of one output, for all pictures of a run. Decoders take
// float32: of that type it is the tensor's own memory, of others a copy.
type output struct {
	whole  bool      // the rows of all pictures are one list
	dims   []int     // of one picture, or of the whole
	size   int       // their product
	values []float32 // as decoders take them
	source numbers   // what values are converted from; nil for float32

	// tensor makes the tensor of the first pictures. It is nil where the size
	// is not known before the run, so that the session allocates the output.
	tensor func(size int, dims []int) (ort.Value, error)
}

// numbers are an output of another type than float32.
type numbers interface {
	// float32s writes the numbers from the given one on.
	float32s(dst []float32, from int)
}

type integers[T int32 | int64] []T

func (n integers[T]) float32s(dst []float32, from int) {
	for i, v := range n[from : from+len(dst)] {
		dst[i] = float32(v)
	}
}

type halfFloats []uint16

func (n halfFloats) float32s(dst []float32, from int) {
	for i, v := range n[from : from+len(dst)] {
		dst[i] = fromHalf(v)
	}
}

// output makes the memory of an output.
func (m *memory) output(p head.Port) (o output, err error) {
	o.whole = m.shape.form == head.End2End
	if leftOpen(p) || o.whole {
		if p.Type == head.Float16 { // the library copies half of what the run allocated
			return o, errors.New("float16 of a size that is not known before the run cannot be read; export it as float32")
		}
		return o, nil
	}
	if len(p.Dims) == 0 {
		return o, errors.New("one number, want an output for each picture")
	}
	o.dims, o.size = p.Dims[1:], 1
	for _, d := range o.dims {
		o.size *= d
	}
	n := m.pictures * o.size
	if n == 0 {
		return o, errors.New("it is empty")
	}
	o.values = make([]float32, n)
	switch p.Type {
	case head.Float32:
		o.tensor = fixed(m, o.values)
	case head.Float16:
		all := make([]uint16, n)
		o.source, o.tensor = halfFloats(all), halves(m, all)
	case head.Int32:
		all := make([]int32, n)
		o.source, o.tensor = integers[int32](all), fixed(m, all)
	case head.Int64:
		all := make([]int64, n)
		o.source, o.tensor = integers[int64](all), fixed(m, all)
	default:
		err = errors.New("want float32, float16, int32 or int64")
	}
	return o, err
}

// allocated takes over an output that a run of n pictures has allocated.
func (o *output) allocated(v ort.Value, n int) error {
	var shape ort.Shape
	var values []float32
	o.source = nil
	switch t := v.(type) {
	case *ort.Tensor[float32]:
		values, shape = t.GetData(), t.GetShape()
	case *ort.Tensor[int32]:
		o.source, shape = integers[int32](t.GetData()), t.GetShape()
	case *ort.Tensor[int64]:
		o.source, shape = integers[int64](t.GetData()), t.GetShape()
	default:
		return fmt.Errorf("want float32, int32 or int64, got %T", v)
	}
	if !o.whole {
		if len(shape) == 0 || shape[0] != int64(n) {
			return fmt.Errorf("a run of %d pictures gave %v, want one for each", n, shape)
		}
		shape = shape[1:]
	} else {
		n = 1
	}
	o.dims, o.size = o.dims[:0], 1
	for _, d := range shape {
		o.dims, o.size = append(o.dims, int(d)), o.size*int(d)
	}
	switch {
	case o.source == nil:
		o.values = values
	case len(o.values) < n*o.size:
		o.values = make([]float32, n*o.size)
	}
	return nil
}

// of is what it holds for picture i.
func (o *output) of(i int) head.Tensor {
	if o.whole {
		i = 0
	}
	part := o.values[i*o.size : (i+1)*o.size]
	if o.source != nil {
		o.source.float32s(part, i*o.size)
	}
	return head.Tensor{Dims: o.dims, Data: part}
}
