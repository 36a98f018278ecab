package main

import (
	"fmt"
	"time"

	"outstation/uplink/wire"
	"outstation/vision"
	"outstation/web"
)

// ClassifierConfig is one second-stage model.
type ClassifierConfig struct {
	Name   string    `yaml:"name"`
	Path   string    `yaml:"path"`
	Labels []string  `yaml:"labels"`
	Mean   []float64 `yaml:"mean"`
	Std    []float64 `yaml:"std"`
}

// ClassifyConfig sends crops of a camera's detections to a classifier.
type ClassifyConfig struct {
	Model   string   `yaml:"model"`
	Classes []string `yaml:"classes"`
	Max     int      `yaml:"max"`
	Margin  float64  `yaml:"margin"`
}

// classifiers are those of the pipeline.
func (c VisionConfig) classifiers() []vision.ClassifierOptions {
	var out []vision.ClassifierOptions
	for _, m := range c.Classifiers {
		out = append(out, vision.ClassifierOptions{Name: m.Name, Open: newClassifier(c, m)})
	}
	return out
}

// triple is three numbers by channel; none are zeros.
func triple(v []float64) (out [3]float32) {
	for i := range min(len(v), len(out)) {
		out[i] = float32(v[i])
	}
	return out
}

// classifiers checks the models of the second stage and who uses them.
func (c *checker) classifiers(cfg VisionConfig) {
	names := map[string]bool{}
	for i, m := range cfg.Classifiers {
		key := fmt.Sprintf("vision.classifiers[%d]", i)
		if m.Name == "" || names[m.Name] {
			c.add(key+".name", "expected a name of its own, got %q", m.Name)
		}
		names[m.Name] = true
		if m.Path == "" {
			c.add(key+".path", "expected the path of an ONNX file, got nothing")
		}
		if meansStore(m.Path) {
			c.add(key+".path", "expected the path of an ONNX file, got %q: the store keeps detectors only", m.Path)
		}
		if len(m.Labels) == 0 {
			c.add(key+".labels", "expected a label for each of the model's scores, in order, got none")
		}
		if len(m.Mean) != len(m.Std) || (len(m.Mean) != 0 && len(m.Mean) != 3) {
			c.add(key+".mean", "expected mean and std as three numbers each, red, green and blue, or neither, got %d and %d", len(m.Mean), len(m.Std))
		}
		for _, v := range m.Std {
			if !(v > 0) {
				c.add(key+".std", "expected numbers above 0, got %v", v)
			}
		}
	}
	for i, cam := range cfg.Cameras {
		key := fmt.Sprintf("vision.cameras[%d].classify", i)
		if o := cam.Classify; o.Model != "" && !names[o.Model] {
			c.add(key+".model", "no classifier is called %q; add it to vision.classifiers", o.Model)
		} else if o.Max < 0 || o.Max > 100 || !(o.Margin >= 0 && o.Margin <= 2) {
			c.add(key, "expected max from 0 to 100 detections and margin from 0 to 2, got %d and %v", o.Max, o.Margin)
		}
	}
}

// webClassifiers is what the page shows of the second stage.
func webClassifiers(all []vision.ClassifierStats) []web.Classifier {
	out := make([]web.Classifier, len(all))
	for i, s := range all {
		out[i] = web.Classifier{
			Name: s.Name, Ready: s.Ready, Error: s.Error, Labels: s.Labels, Failed: s.Failed, Skipped: s.Skipped,
			RunP50MS: ms(s.Run.P50), RunP99MS: ms(s.Run.P99),
		}
	}
	return out
}

// classifierCheck says whether labels can be given.
func classifierCheck(s vision.ClassifierStats) wire.Check {
	name := "classifier " + s.Name
	switch {
	case s.Hung:
		return check(name, wire.Unhealthy, "it does not answer since "+s.RunningSince.UTC().Format(time.RFC3339))
	case s.Error != "":
		return check(name, wire.Impaired, "detections go without its labels: "+s.Error)
	case !s.Ready:
		return check(name, wire.Impaired, "loading")
	}
	return check(name, wire.Healthy, fmt.Sprintf("labels given: %d", s.Labels))
}
