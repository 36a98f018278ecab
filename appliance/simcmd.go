package main

import (
	"fmt"
	"io"
	"slices"
	"time"

	"outstation/vision"
	"outstation/vision/sim"
)

type simCommand struct {
	Export simExportCommand `cmd:"" help:"Write frames, what they show in COCO's format, and a video."`
	Eval   simEvalCommand   `cmd:"" help:"Say how well a model finds what the simulated line shows."`
}

type simEvalCommand struct {
	Seed       uint64  `default:"1" help:"Of the line. The built-in model was trained on seeds from 2^32 on."`
	Frames     int     `default:"2000" help:"How many frames."`
	Every      int64   `default:"0" help:"Take every Nth frame; 0 takes the next when all parts have left."`
	Model      string  `default:"builtin:line" help:"Model file, with the line's classes in their order."`
	Confidence float64 `default:"0.01" help:"Least confidence of what counts."`
	Against    string  `placeholder:"FILE" help:"A YOLOX model to compare the time with, in turns on the same frames."`
	Parts      float64 `name:"parts-per-min" default:"60" help:"Speed of the line."`
	Size       string  `default:"1280x720" help:"Of the frames."`
	Threads    int     `default:"1" help:"Of each model."`
	ONNX       string  `name:"onnxruntime" default:".deps/onnxruntime/libonnxruntime.so.1" help:"ONNX Runtime library."`
}

// usual is the confidence that cameras use.
const usual = vision.DefaultConfidence

// Run evaluates and prints.
func (c *simEvalCommand) Run(e *env) error {
	if c.Frames < 1 || c.Every < 0 || !(c.Confidence > 0 && c.Confidence < 1) {
		return usageError{fmt.Errorf("sim eval: got %d frames, every %d, confidence %v; expected 1 or more, 0 or more, and above 0 and below 1", c.Frames, c.Every, c.Confidence)}
	}
	opts := sim.LineOptions{Seed: c.Seed, PartsPerMinute: c.Parts, DefectRate: sim.DefaultDefectRate}
	if _, err := fmt.Sscanf(c.Size, "%dx%d", &opts.Width, &opts.Height); err != nil {
		return usageError{fmt.Errorf("sim eval: --size: got %q, expected such as 1280x720", c.Size)}
	}
	line, err := sim.NewLine(opts)
	if err != nil {
		return usageError{err}
	}
	if c.Every == 0 {
		c.Every = line.Crossing()
	}
	judged, err := c.open(e, "model", c.Model, c.Confidence)
	if err != nil {
		return err
	}
	defer judged.Close()
	var peer vision.Detector
	if c.Against != "" {
		if peer, err = c.open(e, "peer", c.Against, usual); err != nil {
			return err
		}
		defer peer.Close()
	}
	r, err := c.evaluate(e, line, judged, peer)
	if err != nil {
		return err
	}
	r.print(e.out, c)
	return nil
}

func (c *simEvalCommand) open(e *env, name, path string, confidence float64) (vision.Detector, error) {
	cfg := VisionConfig{ONNXRuntime: c.ONNX, Providers: []string{"cpu"}, Threads: c.Threads}
	return newDetector(cfg, ModelConfig{Name: name, Path: path, Confidence: confidence, Classes: c.classes(path)})(e.ctx)
}

// classes are the line's for a model in a file that is judged.
func (c *simEvalCommand) classes(path string) []string {
	if path == c.Against || path == builtinLine {
		return nil
	}
	return sim.Classes()
}

// evaluation is what was seen.
type evaluation struct {
	scorer     *sim.Scorer
	run, total []time.Duration // of the model
	peer       []time.Duration // the other one's total
}

// evaluate runs both models over the frames.
func (c *simEvalCommand) evaluate(e *env, line *sim.Line, judged, peer vision.Detector) (evaluation, error) {
	r := evaluation{scorer: sim.NewScorer()}
	o := line.Options()
	whole := make([]byte, 3*o.Width*o.Height)
	for i := range c.Frames {
		if err := e.ctx.Err(); err != nil {
			return r, err
		}
		index := int64(i) * c.Every
		frame := vision.Frame{Width: o.Width, Height: o.Height, Image: line.Image(index)}
		if _, err := frame.Image.Letterbox(whole, o.Width, o.Height, 0); err != nil { // draws every row: that is the camera's time
			return r, err
		}
		found, timing, err := judged.Detect(frame)
		if err != nil {
			return r, err
		}
		r.scorer.Add(line.Truth(index).Labels(), found)
		r.run = append(r.run, timing.Run)
		r.total = append(r.total, timing.Preprocess+timing.Run+timing.Postprocess)
		if peer != nil {
			_, timing, err := peer.Detect(frame)
			if err != nil {
				return r, err
			}
			r.peer = append(r.peer, timing.Preprocess+timing.Run+timing.Postprocess)
		}
		frame.Image.Close()
	}
	return r, nil
}

// print writes the result as a table.
func (r evaluation) print(out io.Writer, c *simEvalCommand) {
	classes, mean := r.scorer.Result(usual)
	fmt.Fprintf(out, "%s on sim://line?seed=%d, %d frames, every %d\n\n", c.Model, c.Seed, c.Frames, c.Every)
	fmt.Fprintf(out, "  %-14s %8s %8s    at %.2f: %8s %10s\n", "class", "boxes", "AP@0.5", usual, "recall", "precision")
	for _, k := range classes {
		fmt.Fprintf(out, "  %-14s %8d %8.4f            %8.4f %10.4f\n", k.Class, k.Labels, k.AP, k.Recall, k.Precision)
	}
	fmt.Fprintf(out, "  %-14s %8s %8.4f\n\n", "mAP@0.5", "", mean)
	fmt.Fprintf(out, "  time a frame, %d thread(s), median: %.2f ms, of which the model's run %.2f ms\n", c.Threads, ms(median(r.total)), ms(median(r.run)))
	if len(r.peer) > 0 {
		fmt.Fprintf(out, "  %s: %.2f ms; ratio %.2f\n", c.Against, ms(median(r.peer)), ms(median(r.total))/ms(median(r.peer)))
	}
}

func median(list []time.Duration) time.Duration {
	list = slices.Sorted(slices.Values(list))
	return list[len(list)/2]
}
