//go:build !novision

package onnx

import (
	"errors"
	"fmt"
	"runtime"

	ort "github.com/yalue/onnxruntime_go"
)

// binding is a session and the memory that it reads and writes, made once.
type binding struct {
	pixels  []byte    // letterboxed picture, BGR HWC; of a uint8 model the memory of the input tensor
	input   []float32 // BGR CHW, the memory of a float model's input tensor; else nil
	output  []float32 // the memory of the output tensor
	pinner  runtime.Pinner
	tensors []ort.Value
	session *ort.AdvancedSession
}

// bind makes tensors and a session on one provider.
func bind(o Options, provider string, s shape, outDims ort.Shape) (*binding, error) {
	b := &binding{pixels: make([]byte, 3*s.width*s.height), output: make([]float32, outDims.FlattenedSize())}
	if err := b.connect(o, provider, s, outDims); err != nil {
		return nil, errors.Join(err, b.close())
	}
	return b, nil
}

func (b *binding) connect(o Options, provider string, s shape, outDims ort.Shape) error {
	in, err := b.inputTensor(s)
	if err != nil {
		return err
	}
	out, err := tensor(b, b.output, outDims)
	if err != nil {
		return err
	}
	b.session, err = open(o, provider, s, in, out)
	return err
}

// tensor wraps memory that ONNX Runtime will keep a pointer to: it is pinned
// for the life of the binding.
func tensor[T ort.TensorData](b *binding, memory []T, dims ort.Shape) (ort.Value, error) {
	b.pinner.Pin(&memory[0])
	t, err := ort.NewTensor(dims, memory)
	if err != nil {
		return nil, fmt.Errorf("tensor %v: %w", dims, err)
	}
	b.tensors = append(b.tensors, t)
	return t, nil
}

// inputTensor is the pixels themselves, or their floats.
func (b *binding) inputTensor(s shape) (ort.Value, error) {
	h, w := int64(s.height), int64(s.width)
	if s.bytes {
		return tensor(b, b.pixels, ort.NewShape(1, h, w, 3))
	}
	b.input = make([]float32, len(b.pixels))
	return tensor(b, b.input, ort.NewShape(1, 3, h, w))
}

// close frees the session before the tensors that it uses. ONNX Runtime's
// environment stays: it does not support loading twice.
func (b *binding) close() error {
	var errs []error
	if b.session != nil {
		errs = append(errs, b.session.Destroy())
		b.session = nil
	}
	for _, t := range b.tensors {
		errs = append(errs, t.Destroy())
	}
	b.tensors = nil
	b.pinner.Unpin()
	return errors.Join(errs...)
}
