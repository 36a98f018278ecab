//go:build !novision

package onnx

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"runtime"

	ort "github.com/yalue/onnxruntime_go"

	"outstation/vision"
)

// ClassifierOptions configures a classifier: a model with one picture in,
// float32 1×3×H×W or uint8 1×H×W×3, both in RGB, and one score for each label
// out, 1×K. It runs on the CPU.
type ClassifierOptions struct {
	Library   string   // path of libonnxruntime; the same for the whole process
	ModelPath string   // path of a model in ONNX form
	Labels    []string // one for each score, in order
	Threads   int      // intra-op threads; 0 means one

	// Mean and Std normalise a float input, whose values are in [0, 1] before
	// that, by channel: red, green, blue. Where both are zero they are those of
	// ImageNet, with which torchvision's models are trained.
	Mean, Std [3]float32

	// InputSize is the side in pixels of an input whose size is open; 0 means
	// DefaultClassifierSize.
	InputSize int
}

// DefaultClassifierSize is the input of most models trained on ImageNet.
const DefaultClassifierSize = 224

// The normalisation of ImageNet, red, green and blue.
var (
	imageNetMean = [3]float32{0.485, 0.456, 0.406}
	imageNetStd  = [3]float32{0.229, 0.224, 0.225}
)

// Classifier implements vision.Classifier. One goroutine uses it at a time.
type Classifier struct {
	opts    ClassifierOptions
	width   int
	height  int
	pixels  []byte    // letterboxed picture; of a uint8 model the memory of the input tensor
	input   []float32 // RGB CHW, the memory of a float model's input tensor; else nil
	output  []float32
	pinner  runtime.Pinner
	tensors []ort.Value
	session *ort.AdvancedSession
}

var _ vision.Classifier = (*Classifier)(nil)

// ClassifierOpener returns NewClassifier with these options in the form that
// vision.ClassifierOptions takes.
func ClassifierOpener(o ClassifierOptions) func(context.Context) (vision.Classifier, error) {
	return func(ctx context.Context) (vision.Classifier, error) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		c, err := NewClassifier(o)
		if err != nil {
			return nil, err // not c: a nil *Classifier would be a Classifier that is not nil
		}
		return c, nil
	}
}

// NewClassifier loads the library (once per process) and the model, and runs
// it once.
func NewClassifier(o ClassifierOptions) (*Classifier, error) {
	o.Threads, o.InputSize = cmp.Or(o.Threads, 1), cmp.Or(o.InputSize, DefaultClassifierSize)
	if o.Mean == [3]float32{} && o.Std == [3]float32{} {
		o.Mean, o.Std = imageNetMean, imageNetStd
	}
	if len(o.Labels) == 0 || o.Std[0] <= 0 || o.Std[1] <= 0 || o.Std[2] <= 0 {
		return nil, fmt.Errorf("onnx: classifier %s: %d labels and std %v, want labels, and more than 0", o.ModelPath, len(o.Labels), o.Std)
	}
	if err := load(o.Library); err != nil {
		return nil, err
	}
	if _, err := os.Stat(o.ModelPath); err != nil {
		return nil, fmt.Errorf("onnx: classifier: %w; copy the model there or correct its path (vision.classifiers)", err)
	}
	c := &Classifier{opts: o}
	if err := c.connect(); err != nil {
		return nil, errors.Join(fmt.Errorf("onnx: classifier %s: %w", o.ModelPath, err), c.Close())
	}
	return c, nil
}

// connect makes tensors and session from what the graph says.
func (c *Classifier) connect() error {
	inputs, outputs, err := ort.GetInputOutputInfo(c.opts.ModelPath)
	if err != nil {
		return fmt.Errorf("not a model that ONNX Runtime reads: %w", err)
	}
	if len(inputs) != 1 || len(outputs) != 1 {
		return fmt.Errorf("%d inputs and %d outputs, want one of each", len(inputs), len(outputs))
	}
	in, err := c.bindInput(inputs[0])
	if err != nil {
		return err
	}
	dims, labels := outputs[0].Dimensions, int64(len(c.opts.Labels))
	if outputs[0].DataType != ort.TensorElementDataTypeFloat || len(dims) != 2 || dims[0] > 1 || (dims[1] >= 0 && dims[1] != labels) {
		return fmt.Errorf("output %v of type %v, want float32 1×%d, as many as there are labels", dims, outputs[0].DataType, labels)
	}
	c.output = make([]float32, labels)
	out, err := pinned(c, c.output, ort.NewShape(1, labels))
	if err != nil {
		return err
	}
	options, err := ort.NewSessionOptions()
	if err != nil {
		return err
	}
	err = errors.Join(options.SetIntraOpNumThreads(c.opts.Threads), options.SetInterOpNumThreads(1),
		options.AddSessionConfigEntry("session.intra_op.allow_spinning", "0"))
	if err == nil {
		c.session, err = ort.NewAdvancedSession(c.opts.ModelPath, []string{inputs[0].Name}, []string{outputs[0].Name}, []ort.Value{in}, []ort.Value{out}, options)
	}
	if err = errors.Join(err, options.Destroy()); err != nil {
		return err
	}
	if err := c.session.Run(); err != nil {
		return fmt.Errorf("warm-up: %w", err)
	}
	return nil
}

// bindInput is the pixels themselves, or their floats.
func (c *Classifier) bindInput(in ort.InputOutputInfo) (ort.Value, error) {
	d := in.Dimensions
	side := func(n int64) int {
		if n < 0 {
			return c.opts.InputSize
		}
		return int(n)
	}
	planar := in.DataType == ort.TensorElementDataTypeFloat && len(d) == 4 && d[0] <= 1 && d[1] == 3
	packed := in.DataType == ort.TensorElementDataTypeUint8 && len(d) == 4 && d[0] <= 1 && d[3] == 3
	switch {
	case planar:
		c.height, c.width = side(d[2]), side(d[3])
	case packed:
		c.height, c.width = side(d[1]), side(d[2])
	default:
		return nil, fmt.Errorf("input %v of type %v, want float32 1×3×height×width or uint8 1×height×width×3", d, in.DataType)
	}
	h, w := int64(c.height), int64(c.width)
	c.pixels = make([]byte, 3*h*w)
	if packed {
		return pinned(c, c.pixels, ort.NewShape(1, h, w, 3))
	}
	c.input = make([]float32, len(c.pixels))
	return pinned(c, c.input, ort.NewShape(1, 3, h, w))
}

// pinned wraps memory that ONNX Runtime keeps a pointer to.
func pinned[T ort.TensorData](c *Classifier, memory []T, dims ort.Shape) (ort.Value, error) {
	c.pinner.Pin(&memory[0])
	t, err := ort.NewTensor(dims, memory)
	if err != nil {
		return nil, fmt.Errorf("tensor %v: %w", dims, err)
	}
	c.tensors = append(c.tensors, t)
	return t, nil
}

// Classify scales the picture to the model's input, the rest of which is
// black where the aspect differs, and runs the model.
func (c *Classifier) Classify(m vision.Image) (string, float64, error) {
	if _, err := m.Letterbox(c.pixels, c.width, c.height, 0); err != nil {
		return "", 0, fmt.Errorf("onnx: classifier: preprocessing: %w", err)
	}
	c.prepare()
	if err := c.session.Run(); err != nil {
		return "", 0, fmt.Errorf("onnx: classifier: %w", err)
	}
	best, p, err := probable(c.output)
	if err != nil {
		return "", 0, err
	}
	return c.opts.Labels[best], p, nil
}

// prepare turns BGR into the model's RGB.
func (c *Classifier) prepare() {
	n := c.width * c.height
	for i := range n {
		p := c.pixels[3*i : 3*i+3]
		p[0], p[2] = p[2], p[0]
		if c.input != nil {
			for k := range 3 {
				c.input[k*n+i] = (float32(p[k])/255 - c.opts.Mean[k]) / c.opts.Std[k]
			}
		}
	}
}

// probable is the largest score and its probability. Scores that are
// probabilities already, none below 0 and together 1, are taken as they are;
// others are logits.
func probable(scores []float32) (best int, p float64, err error) {
	sum, least := 0.0, math.Inf(1)
	for i, v := range scores {
		if math.IsNaN(float64(v)) {
			return 0, 0, errors.New("onnx: classifier: a score is not a number")
		}
		if v > scores[best] {
			best = i
		}
		sum, least = sum+float64(v), min(least, float64(v))
	}
	if least >= 0 && math.Abs(sum-1) < 1e-3 {
		return best, min(float64(scores[best]), 1), nil
	}
	sum = 0
	for _, v := range scores {
		sum += math.Exp(float64(v - scores[best]))
	}
	return best, 1 / sum, nil
}

// Close frees the session before the tensors that it uses.
func (c *Classifier) Close() error {
	var errs []error
	if c.session != nil {
		errs = append(errs, c.session.Destroy())
		c.session = nil
	}
	for _, t := range c.tensors {
		errs = append(errs, t.Destroy())
	}
	c.tensors = nil
	c.pinner.Unpin()
	return errors.Join(errs...)
}
