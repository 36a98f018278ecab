//go:build !novision

package onnx

import (
	"errors"
	"fmt"
	"runtime"

	"outstation/vision/modelfile"
)

// The execution providers that can be asked for.
const (
	ProviderTensorRT = "tensorrt"
	ProviderCUDA     = "cuda"
	ProviderCPU      = "cpu"
)

// Options configures a detector.
type Options struct {
	Library   string   // path of libonnxruntime; the same for the whole process
	ModelPath string   // path of a model in ONNX form
	Model     []byte   // or the model itself
	ModelName string   // what events call it
	SHA256    string   // of the model, in hex, as the caller computed it; Info repeats it
	Providers []string // in order of preference; empty means cpu
	Threads   int      // intra-op threads on the CPU; 0 means one per CPU

	// These win over the model file and the graph's metadata. Without any of
	// them classes are COCO's, and thresholds head's defaults.
	Classes    []string
	Confidence float64 // least confidence, in (0, 1); 0 means that it is not said
	Floor      float64 // least confidence of what is returned although it does not count, see vision.DetectorInfo; 0: nothing is
	IoU        float64 // NMS threshold, in (0, 1]; 0 means that it is not said

	// File is the model file. Without it, it is looked for beside ModelPath.
	File *modelfile.File

	// MaxBatch is how many pictures of a graph with a dynamic batch one run
	// takes at most; 0 chooses by measuring when the model is loaded, except on
	// TensorRT, where 0 means 1.
	MaxBatch int

	// Cameras is how many cameras the model is for: a batch has one frame of
	// each at most. 0 means that it is not known.
	Cameras int

	// EngineDir is where TensorRT engines are kept between starts; it is made
	// when it is needed. Empty means that they are not kept.
	EngineDir string

	// Scratch is where the record of a session's first run lies for a moment; it
	// is made when it is needed. Where it is empty or cannot be used, the
	// system's temporary directory is taken.
	Scratch string
}

// maxBatch is the largest MaxBatch: above it memory grows and speed does not.
const maxBatch = 64

// file is where the model is.
func (o Options) file() file { return file{o.ModelPath, o.Model} }

// where says where the model is, for errors.
func (o Options) where() string {
	if o.Model != nil {
		return "in this program"
	}
	return "at " + o.ModelPath
}

// check fills in defaults and reports every impossible option at once.
func (o Options) check() (Options, error) {
	var errs []error
	if o.Library == "" || (o.ModelPath == "") == (o.Model == nil) || o.ModelName == "" {
		errs = append(errs, fmt.Errorf("library %q, model path %q (or %d bytes) and model name %q: want each, and the model once",
			o.Library, o.ModelPath, len(o.Model), o.ModelName))
	}
	if len(o.Providers) == 0 {
		o.Providers = []string{ProviderCPU}
	}
	for _, p := range o.Providers {
		if p != ProviderTensorRT && p != ProviderCUDA && p != ProviderCPU {
			errs = append(errs, fmt.Errorf("provider %q: want tensorrt, cuda or cpu", p))
		}
	}
	if !(o.Floor >= 0 && o.Floor < 1) {
		errs = append(errs, fmt.Errorf("floor %v: want 0 or a confidence below 1", o.Floor))
	}
	if o.Threads < 0 {
		errs = append(errs, fmt.Errorf("threads %d: want 0 or more", o.Threads))
	}
	if o.MaxBatch < 0 || o.MaxBatch > maxBatch || o.Cameras < 0 {
		errs = append(errs, fmt.Errorf("max batch %d for %d cameras: want 0 to %d, and 0 cameras or more", o.MaxBatch, o.Cameras, maxBatch))
	}
	if o.Threads == 0 {
		o.Threads = runtime.NumCPU()
	}
	if err := errors.Join(errs...); err != nil {
		return o, fmt.Errorf("onnx: options: %w", err)
	}
	return o, nil
}
