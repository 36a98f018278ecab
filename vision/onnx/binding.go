//go:build !novision

package onnx

import (
	"errors"
	"fmt"
	"runtime"

	ort "github.com/yalue/onnxruntime_go"

	"outstation/vision"
)

// binding is the memory of as many pictures as one run may have, and a session
// for each number of them that is run. All of it is made once, and all
// sessions read and write the same memory from its beginning.
type binding struct {
	pixels   []byte    // letterboxed pictures, BGR HWC; of a uint8 model the memory of the input tensors
	input    []float32 // BGR CHW, the memory of a float model's input tensors; else nil
	output   []float32 // the memory of the output tensors
	pictures int       // how many the memory holds
	pinner   runtime.Pinner
	tensors  []ort.Value
	sessions []sized // the smallest first
	nodes    []vision.NodeCount
}

// sized is the session for one size of batch.
type sized struct {
	batch   int
	session *ort.AdvancedSession
}

// picture is the memory of one picture's input.
type picture struct {
	pixels []byte
	input  []float32 // nil for a uint8 model
}

// bind makes the memory, and a session on one provider for each of the sizes,
// which ascend. outDims is the output for one picture.
func bind(o Options, provider string, s shape, outDims ort.Shape, sizes []int) (*binding, error) {
	b := memory(s, outDims, sizes[len(sizes)-1])
	for _, size := range sizes {
		if err := b.connect(o, provider, s, outDims, size); err != nil {
			return nil, errors.Join(err, b.close())
		}
	}
	return b, nil
}

// memory is a binding for n pictures without sessions.
func memory(s shape, outDims ort.Shape, n int) *binding {
	b := &binding{pictures: n, pixels: make([]byte, n*3*s.width*s.height), output: make([]float32, int64(n)*outDims.FlattenedSize())}
	b.pinner.Pin(&b.pixels[0])
	b.pinner.Pin(&b.output[0])
	if !s.bytes {
		b.input = make([]float32, len(b.pixels))
		b.pinner.Pin(&b.input[0])
	}
	return b
}

// connect makes the session for batches of one size.
func (b *binding) connect(o Options, provider string, s shape, outDims ort.Shape, size int) error {
	in, err := b.inputTensor(s, size)
	if err != nil {
		return err
	}
	dims := outDims.Clone()
	dims[0] = int64(size)
	out, err := tensor(b, b.output[:dims.FlattenedSize()], dims)
	if err != nil {
		return err
	}
	session, nodes, err := open(o, provider, s, in, out, size)
	if err != nil {
		return fmt.Errorf("batch %d: %w", size, err)
	}
	b.sessions, b.nodes = append(b.sessions, sized{size, session}), nodes
	return nil
}

// tensor wraps memory that ONNX Runtime will keep a pointer to.
func tensor[T ort.TensorData](b *binding, memory []T, dims ort.Shape) (ort.Value, error) {
	t, err := ort.NewTensor(dims, memory)
	if err != nil {
		return nil, fmt.Errorf("tensor %v: %w", dims, err)
	}
	b.tensors = append(b.tensors, t)
	return t, nil
}

// inputTensor is the pixels themselves, or their floats.
func (b *binding) inputTensor(s shape, size int) (ort.Value, error) {
	n, h, w := int64(size), int64(s.height), int64(s.width)
	if s.bytes {
		return tensor(b, b.pixels[:n*h*w*3], ort.NewShape(n, h, w, 3))
	}
	return tensor(b, b.input[:n*h*w*3], ort.NewShape(n, 3, h, w))
}

// picture is the memory of the ith picture's input.
func (b *binding) picture(i int) picture {
	values := len(b.pixels) / b.pictures
	p := picture{pixels: b.pixels[i*values : (i+1)*values]}
	if b.input != nil {
		p.input = b.input[i*values : (i+1)*values]
	}
	return p
}

// out is the output for the ith picture.
func (b *binding) out(i int) []float32 {
	values := len(b.output) / b.pictures
	return b.output[i*values : (i+1)*values]
}

// run runs the first n pictures in the smallest session that takes as many.
// What is in the memory of the further pictures is inspected with them and
// looked at by nobody.
func (b *binding) run(n int) error {
	for _, s := range b.sessions {
		if s.batch >= n {
			return s.session.Run()
		}
	}
	return fmt.Errorf("a batch of %d, and sessions for %d at most", n, b.pictures)
}

// close frees the sessions before the tensors that they use. ONNX Runtime's
// environment stays: it does not support loading twice.
func (b *binding) close() error {
	var errs []error
	for _, s := range b.sessions {
		errs = append(errs, s.session.Destroy())
	}
	for _, t := range b.tensors {
		errs = append(errs, t.Destroy())
	}
	b.sessions, b.tensors = nil, nil
	b.pinner.Unpin()
	return errors.Join(errs...)
}
