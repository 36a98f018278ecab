package main

import (
	"fmt"
	"io"
	"slices"
	"time"

	"outstation/vision"
	"outstation/vision/head"
	"outstation/vision/sim"
)

type simCommand struct {
	Export simExportCommand `cmd:"" help:"Write frames, what they show in COCO's format, and a video."`
	Eval   simEvalCommand   `cmd:"" help:"Say how well a model finds what the simulated line shows."`
}

type simEvalCommand struct {
	Seed       uint64  `default:"1" help:"Seed of the line. The built-in model was trained on seeds from 2^32 on."`
	Frames     int     `default:"2000" help:"How many frames."`
	Every      int64   `default:"0" help:"Take every Nth frame; 0 takes the next when all parts have left."`
	Model      string  `default:"builtin:line" help:"Model file, with the line's classes in their order."`
	Confidence float64 `default:"0.01" help:"Least confidence of a detection that is looked at; low, so that the whole curve of precision over recall is seen."`
	Against    string  `placeholder:"FILE" help:"A YOLOX model to compare the time with, in turns on the same frames."`
	Parts      float64 `name:"parts-per-min" default:"60" help:"Speed of the line."`
	Size       string  `default:"1280x720" help:"Size of the frames, in pixels."`
	Threads    int     `default:"1" help:"Threads of each model."`
	ONNX       string  `name:"onnxruntime" default:".deps/onnxruntime/libonnxruntime.so.1" help:"ONNX Runtime library."`
}

// usual is the confidence that cameras use with the line's model.
const usual = sim.Confidence

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
	scorer, err := c.score(e, line)
	if err != nil {
		return err
	}
	c.printScores(e.out, scorer)
	return c.compareTimes(e, line)
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

// frame is frame n of those that are looked at. All of it is drawn: that is
// the camera's time, not the model's.
func (c *simEvalCommand) frame(line *sim.Line, n int, pixels []byte) (f vision.Frame, index int64, err error) {
	o := line.Options()
	index = int64(n) * c.Every
	f = vision.Frame{Width: o.Width, Height: o.Height, Image: line.Image(index)}
	_, err = f.Image.Letterbox(pixels, o.Width, o.Height, 0)
	return f, index, err
}

// score compares what the model finds with the truth.
func (c *simEvalCommand) score(e *env, line *sim.Line) (*sim.Scorer, error) {
	model, err := c.open(e, "model", c.Model, c.Confidence)
	if err != nil {
		return nil, err
	}
	defer model.Close()
	scorer, pixels := sim.NewScorer(), make([]byte, 3*line.Options().Width*line.Options().Height)
	for n := range c.Frames {
		if err := e.ctx.Err(); err != nil {
			return nil, err
		}
		f, index, err := c.frame(line, n, pixels)
		if err != nil {
			return nil, err
		}
		found, _, err := model.Detect(f)
		f.Image.Close()
		if err != nil {
			return nil, err
		}
		scorer.Add(line.Truth(index).Labels(), found)
	}
	return scorer, nil
}

// printScores writes the scores as a table.
func (c *simEvalCommand) printScores(out io.Writer, scorer *sim.Scorer) {
	classes, mean := scorer.Result(usual)
	fmt.Fprintf(out, "%s on sim://line?seed=%d, %d frames, every %d\n\n", c.Model, c.Seed, c.Frames, c.Every)
	fmt.Fprintf(out, "  %-14s %8s %8s    at %.2f: %8s %10s\n", "class", "boxes", "AP@0.5", usual, "recall", "precision")
	for _, k := range classes {
		fmt.Fprintf(out, "  %-14s %8d %8.4f            %8.4f %10.4f\n", k.Class, k.Labels, k.AP, k.Recall, k.Precision)
	}
	fmt.Fprintf(out, "  %-14s %8s %8.4f\n\n", "mAP@0.5", "", mean)
}

// timedFrames bounds how many frames are timed.
const timedFrames = 300

// times are where the time of a model went, by frame.
type times struct{ run, total []time.Duration }

// compareTimes times the model as cameras use it, in turns with the other one
// on the same frames.
func (c *simEvalCommand) compareTimes(e *env, line *sim.Line) error {
	paths := []string{c.Model}
	if c.Against != "" {
		paths = append(paths, c.Against)
	}
	all := make([]times, len(paths))
	models := make([]vision.Detector, len(paths))
	for i, path := range paths {
		confidence := usual
		if path == c.Against {
			confidence = head.DefaultConfidence
		}
		m, err := c.open(e, "model", path, confidence)
		if err != nil {
			return err
		}
		defer m.Close()
		models[i] = m
	}
	pixels := make([]byte, 3*line.Options().Width*line.Options().Height)
	for n := range min(c.Frames, timedFrames) {
		if err := e.ctx.Err(); err != nil {
			return err
		}
		f, _, err := c.frame(line, n, pixels)
		if err != nil {
			return err
		}
		for i, m := range models {
			_, t, err := m.Detect(f)
			if err != nil {
				return err
			}
			all[i].run = append(all[i].run, t.Run)
			all[i].total = append(all[i].total, t.Preprocess+t.Run+t.Postprocess)
		}
		f.Image.Close()
	}
	for i, t := range all {
		fmt.Fprintf(e.out, "  time a frame, %d thread(s), median: %.2f ms, of which the model's run %.2f ms: %s\n", c.Threads, ms(median(t.total)), ms(median(t.run)), paths[i])
	}
	if len(all) > 1 {
		fmt.Fprintf(e.out, "  ratio %.2f, of the runs %.2f\n", ms(median(all[0].total))/ms(median(all[1].total)), ms(median(all[0].run))/ms(median(all[1].run)))
	}
	return nil
}

func median(list []time.Duration) time.Duration {
	list = slices.Sorted(slices.Values(list))
	return list[len(list)/2]
}
