//go:build !novision

package onnx

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	ort "github.com/yalue/onnxruntime_go"
)

// open makes a session on one provider and runs it once.
func open(o Options, provider string, s shape, ins, outs []ort.Value) (_ session, err error) {
	options, err := ort.NewSessionOptions()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, options.Destroy()) }()
	if err := configure(options, o, provider); err != nil {
		return nil, err
	}
	session, err := o.file().session(s, ins, outs, options)
	if err != nil {
		return nil, err
	}
	if err := session.Run(); err != nil {
		return nil, errors.Join(fmt.Errorf("warm-up: %w", err), session.Destroy())
	}
	return session, nil
}

// configure sets threads and provider. Spinning is off: waiting threads would
// otherwise burn four times the CPU time of the model itself between frames.
func configure(options *ort.SessionOptions, o Options, provider string) error {
	err := errors.Join(
		options.SetIntraOpNumThreads(o.Threads),
		options.SetInterOpNumThreads(1),
		options.AddSessionConfigEntry("session.intra_op.allow_spinning", "0"),
		options.SetGraphOptimizationLevel(ort.GraphOptimizationLevelEnableAll),
	)
	if err != nil {
		return err
	}
	if provider == ProviderCPU {
		return nil // the CPU is part of every session
	}
	if err := beside(o.Library, provider); err != nil {
		return err
	}
	if provider == ProviderCUDA {
		return useCUDA(options)
	}
	return useTensorRT(options)
}

// beside reports which of a GPU provider's libraries is missing. ONNX Runtime
// loads them from its own directory, and otherwise says only that it failed.
func beside(library, provider string) error {
	for _, name := range []string{"shared", provider} {
		path := filepath.Join(filepath.Dir(library), "libonnxruntime_providers_"+name+".so")
		if _, err := os.Stat(path); err != nil {
			return fmt.Errorf("this ONNX Runtime has no provider %s: %w", provider, err)
		}
	}
	return nil
}

func useTensorRT(options *ort.SessionOptions) (err error) {
	p, err := ort.NewTensorRTProviderOptions()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Destroy()) }()
	return options.AppendExecutionProviderTensorRT(p)
}

func useCUDA(options *ort.SessionOptions) (err error) {
	p, err := ort.NewCUDAProviderOptions()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Destroy()) }()
	return options.AppendExecutionProviderCUDA(p)
}

// session is what runs a model: its inputs and outputs are bound already.
type session interface {
	Run() error
	Destroy() error
}

// varying is a session some of whose outputs have a size that is not known
// before the run: ONNX Runtime allocates them each time, and the library copies
// them.
type varying struct {
	*ort.DynamicAdvancedSession
	ins, outs []ort.Value
	own       []bool // which of outs are the run's
}

// Run runs the model, and frees what the run before allocated.
func (v *varying) Run() error {
	if err := v.free(); err != nil {
		return err
	}
	return v.DynamicAdvancedSession.Run(v.ins, v.outs)
}

func (v *varying) free() error {
	for i, own := range v.own {
		if !own || v.outs[i] == nil {
			continue
		}
		if err := v.outs[i].Destroy(); err != nil {
			return err
		}
		v.outs[i] = nil
	}
	return nil
}

// Destroy frees the session and its last outputs.
func (v *varying) Destroy() error {
	return errors.Join(v.free(), v.DynamicAdvancedSession.Destroy())
}
