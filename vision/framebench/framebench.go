//go:build !novision

package framebench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"outstation/vision"
	"outstation/vision/capture"
	"outstation/vision/onnx"
)

// DefaultFrames is how many frames are measured.
const DefaultFrames = 300

// warmup is how many frames run unmeasured first: caches, branch predictors
// and the pools of Mats settle within a few.
const warmup = 10

// Options says what to measure.
type Options struct {
	Model   string // path of a YOLOX model in ONNX form
	Video   string // path of a recording; it is looped when it is shorter than Frames
	Library string // path of libonnxruntime
	Frames  int    // 0 means DefaultFrames
}

// Result is in milliseconds a frame, each the median over the frames on its
// own, so that parts need not add up to TotalMs.
type Result struct {
	Frames   int
	TotalMs  float64 // letterbox to detections, without the video's decoding
	OrtMs    float64 // ONNX Runtime's run
	PreMs    float64 // letterbox and HWC→CHW
	PostMs   float64 // decode of the output and NMS
	DecodeMs float64 // the video's decoding, outside of TotalMs
	Overhead float64 // (TotalMs - OrtMs) / OrtMs, the median of each frame's own
	Stages   []Stage // in the order of a frame's way
}

// Stage is one part of a frame's way, in milliseconds.
type Stage struct {
	Name     string // decode, preprocess, inference or postprocess
	P50, P99 float64
}

// Run measures with one intra-op thread on the CPU. It stops early with ctx's
// error.
func Run(ctx context.Context, o Options) (Result, error) {
	if o.Frames == 0 {
		o.Frames = DefaultFrames
	}
	if o.Frames < 0 {
		return Result{}, fmt.Errorf("framebench: %d frames, want 1 or more", o.Frames)
	}
	detector, err := onnx.New(onnx.Options{
		Library: o.Library, ModelPath: o.Model, ModelName: "bench", Providers: []string{onnx.ProviderCPU}, Threads: 1,
	})
	if err != nil {
		return Result{}, err
	}
	samples, err := measure(ctx, detector, o)
	if err := errors.Join(err, detector.Close()); err != nil {
		return Result{}, err
	}
	return samples.result(), nil
}

// measure runs the detector over the video.
func measure(ctx context.Context, d vision.Detector, o Options) (s samples, err error) {
	factory, err := capture.Factory(capture.Options{URL: o.Video, Loop: true})
	if err != nil {
		return s, err
	}
	src := factory()
	defer func() { err = errors.Join(err, src.Close()) }()
	if err := src.Open(ctx); err != nil {
		return s, err
	}
	for i := range warmup + o.Frames {
		one, err := frame(d, src)
		if errors.Is(err, io.EOF) {
			return s, fmt.Errorf("framebench: %s ended after %d frames: %w", o.Video, i, io.ErrUnexpectedEOF)
		}
		if err != nil {
			return s, err
		}
		if i >= warmup {
			s = append(s, one)
		}
	}
	return s, nil
}

// sample is one frame in milliseconds.
type sample struct{ total, ort, pre, post, decode float64 }

type samples []sample

// frame reads and inspects one frame.
func frame(d vision.Detector, src vision.Source) (sample, error) {
	began := time.Now()
	f, err := src.Read()
	if err != nil {
		return sample{}, err
	}
	decoded := time.Now()
	_, t, err := d.Detect(f)
	total := time.Since(decoded)
	f.Image.Close()
	return sample{ms(total), ms(t.Run), ms(t.Preprocess), ms(t.Postprocess), ms(decoded.Sub(began))}, err
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func (s samples) result() Result {
	return Result{
		Frames:   len(s),
		TotalMs:  s.median(func(x sample) float64 { return x.total }),
		OrtMs:    s.median(func(x sample) float64 { return x.ort }),
		PreMs:    s.median(func(x sample) float64 { return x.pre }),
		PostMs:   s.median(func(x sample) float64 { return x.post }),
		DecodeMs: s.median(func(x sample) float64 { return x.decode }),
		Overhead: s.median(func(x sample) float64 { return (x.total - x.ort) / x.ort }),
		Stages: []Stage{
			s.stage("decode", func(x sample) float64 { return x.decode }),
			s.stage("preprocess", func(x sample) float64 { return x.pre }),
			s.stage("inference", func(x sample) float64 { return x.ort }),
			s.stage("postprocess", func(x sample) float64 { return x.post }),
		},
	}
}

func (s samples) stage(name string, of func(sample) float64) Stage {
	return Stage{Name: name, P50: s.quantile(0.5, of), P99: s.quantile(0.99, of)}
}

func (s samples) median(of func(sample) float64) float64 { return s.quantile(0.5, of) }

func (s samples) quantile(q float64, of func(sample) float64) float64 {
	values := make([]float64, len(s))
	for i, x := range s {
		values[i] = of(x)
	}
	slices.Sort(values)
	return values[min(int(q*float64(len(values))), len(values)-1)]
}
