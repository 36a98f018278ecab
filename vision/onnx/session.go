//go:build !novision

package onnx

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	ort "github.com/yalue/onnxruntime_go"

	"outstation/vision"
)

// open makes a session on one provider for batches of one size, runs it once,
// and proves by the profile of that run that its nodes are on the provider.
func open(o Options, provider string, s shape, ins, outs []ort.Value, size int) (made session, shown proof, err error) {
	options, err := ort.NewSessionOptions()
	if err != nil {
		return nil, shown, err
	}
	defer func() { err = errors.Join(err, options.Destroy()) }()
	err = keepSignals(func() error {
		if err := configure(options, o, provider, size); err != nil {
			return err
		}
		made, shown, err = openProven(o, provider, s, ins, outs, options, size)
		return err
	})
	return made, shown, err
}

// openProven is open with options that are complete. Without a proof there is no
// session, except on the CPU, which nothing can fall back from.
func openProven(o Options, provider string, s shape, ins, outs []ort.Value, options *ort.SessionOptions, size int) (_ session, shown proof, err error) {
	p, err := profile(o, options)
	if err != nil {
		if provider != ProviderCPU {
			return nil, shown, err
		}
		shown.missing = err.Error()
	} else {
		defer func() { err = errors.Join(err, p.close()) }()
	}
	var session session
	err = o.guarded(provider, size, func() error {
		if session, err = o.file().session(s, ins, outs, options); err != nil {
			return err
		}
		if err := session.Run(); err != nil {
			return errors.Join(fmt.Errorf("warm-up: %w", err), session.Destroy())
		}
		return nil
	})
	if err != nil {
		return nil, shown, err
	}
	if p == nil {
		return session, shown, nil
	}
	shown.nodes, err = p.proveRun(session, provider)
	if err != nil && provider == ProviderCPU {
		return session, proof{missing: err.Error()}, nil
	}
	if err != nil {
		return nil, shown, errors.Join(err, session.Destroy())
	}
	return session, shown, nil
}

// proveRun ends the record of a session's first run and counts its nodes.
func (p *profiler) proveRun(made session, provider string) ([]vision.NodeCount, error) {
	ran, err := p.end(made)
	if err != nil {
		return nil, err
	}
	nodes, err := prove(ran, provider)
	if err != nil {
		return nil, fmt.Errorf("%s is not what runs it: %w", provider, err)
	}
	return nodes, nil
}

// configure sets threads and provider. Spinning is off: waiting threads would
// otherwise burn four times the CPU time of the model itself between frames.
func configure(options *ort.SessionOptions, o Options, provider string, size int) error {
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
	if provider == ProviderCUDA {
		return useCUDA(options)
	}
	return useTensorRT(options, o, size)
}

// library is the file of a part of ONNX Runtime. It loads them from its own
// directory.
func library(main, part string) string {
	return filepath.Join(filepath.Dir(main), "libonnxruntime_providers_"+part+".so")
}

// installed reports which of a GPU provider's own libraries is missing.
func installed(main, provider string) error {
	for _, part := range []string{"shared", provider} {
		if _, err := os.Stat(library(main, part)); err != nil {
			return fmt.Errorf("this ONNX Runtime has no provider %s: %w", provider, err)
		}
	}
	return nil
}

// usable reports every library that a GPU provider misses, and what brings it.
// ONNX Runtime names the first of them at best.
func usable(main, provider string) error {
	if provider == ProviderCPU {
		return nil
	}
	if err := installed(main, provider); err != nil {
		return err
	}
	missing, err := systemLoader().missing(library(main, provider))
	if err != nil {
		return err
	}
	if len(missing) > 0 {
		return fmt.Errorf("missing: %s; install it, or add its directory to /etc/ld.so.conf.d and run ldconfig", install(missing))
	}
	return nil
}

func useTensorRT(options *ort.SessionOptions, o Options, size int) (err error) {
	p, err := ort.NewTensorRTProviderOptions()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Destroy()) }()
	if o.EngineDir != "" {
		cache, err := o.engines(size)
		if err != nil {
			return err
		}
		if err := cache.open(); err != nil {
			return err
		}
		if err := p.Update(cache.options()); err != nil {
			return err
		}
	}
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
