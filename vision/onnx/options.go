//go:build !novision

package onnx

import (
	"errors"
	"fmt"
	"runtime"

	"outstation/vision"
)

// The execution providers that can be asked for.
const (
	ProviderTensorRT = "tensorrt"
	ProviderCUDA     = "cuda"
	ProviderCPU      = "cpu"
)

// Options configures a detector.
type Options struct {
	Library    string   // path of libonnxruntime; the same for the whole process
	ModelPath  string   // path of a YOLOX model in ONNX form
	ModelName  string   // what events call it
	Providers  []string // in order of preference; empty means cpu
	Threads    int      // intra-op threads on the CPU; 0 means one per CPU
	Classes    []string // nil means COCO's
	Confidence float64  // least confidence, in (0, 1); 0 means vision.DefaultConfidence
	IoU        float64  // NMS threshold, in (0, 1]; 0 means vision.DefaultIoU

	// InputSize is the side in pixels, a multiple of 32, of a model whose
	// input size is dynamic; 0 means DefaultInputSize. A model with a fixed
	// input ignores it.
	InputSize int
}

// DefaultInputSize is the input of YOLOX's small models.
const DefaultInputSize = 416

// check fills in defaults and reports every impossible option at once.
func (o Options) check() (Options, error) {
	var errs []error
	if o.Library == "" || o.ModelPath == "" || o.ModelName == "" {
		errs = append(errs, fmt.Errorf("library %q, model path %q and model name %q: none may be empty", o.Library, o.ModelPath, o.ModelName))
	}
	if len(o.Providers) == 0 {
		o.Providers = []string{ProviderCPU}
	}
	for _, p := range o.Providers {
		if p != ProviderTensorRT && p != ProviderCUDA && p != ProviderCPU {
			errs = append(errs, fmt.Errorf("provider %q: want tensorrt, cuda or cpu", p))
		}
	}
	if o.Threads < 0 {
		errs = append(errs, fmt.Errorf("threads %d: want 0 or more", o.Threads))
	}
	if o.Threads == 0 {
		o.Threads = runtime.NumCPU()
	}
	if o.Classes == nil {
		o.Classes = vision.COCO()
	}
	if o.InputSize == 0 {
		o.InputSize = DefaultInputSize
	}
	if err := errors.Join(errs...); err != nil {
		return o, fmt.Errorf("onnx: options: %w", err)
	}
	return o, nil
}
