//go:build !novision

package onnx

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"strings"

	"outstation/vision"
	"outstation/vision/head"
	"outstation/vision/modelfile"
)

// model is what was settled about a model before it is run.
type model struct {
	shape   shape
	decoder head.Decoder
	notes   []string
	counts  head.Options // thresholds from which on a detection counts; zero where all do
	classes []string     // their names; empty where nobody says them
}

// parties are those who say something about a model. The configuration
// wins over the model file, and that over the graph's metadata.
type parties struct {
	options Options
	file    modelfile.File // empty without one
	meta    modelfile.Metadata
	graph   head.Graph
	props   map[string]string // the graph's metadata as it is
	notes   []string
}

func (s *parties) note(format string, args ...any) {
	s.notes = append(s.notes, fmt.Sprintf(format, args...))
}

// settle finds out all that is needed to run a model and to read its outputs.
func settle(o Options) (m model, err error) {
	from, err := ask(o)
	if err != nil {
		return m, err
	}
	return from.settle()
}

func (s *parties) settle() (m model, err error) {
	m.shape, err = inspect(s.graph, s.file, s.meta)
	if err != nil {
		return m, err
	}
	classes, named := s.classes()
	form, seen, err := s.form(m.shape, classes, named)
	if err != nil {
		return m, err
	}
	m.shape.form = form
	if m.shape.prep, err = s.preparation(form, m.shape.inputs[m.shape.image].Type); err != nil {
		return m, err
	}
	opts, counts := s.thresholds()
	m.counts = counts
	opts.Width, opts.Height, opts.Classes = m.shape.width, m.shape.height, classes
	if m.decoder, err = head.New(form, opts, seen); err != nil {
		return m, err
	}
	m.shape.outputs = nil
	for _, i := range m.decoder.Outputs() {
		m.shape.outputs = append(m.shape.outputs, seen[i])
		if m.shape.batch == 0 && form != head.End2End && len(seen[i].Dims) > 0 {
			m.shape.batch = max(0, seen[i].Dims[0]) // some exports leave only the input open
		}
	}
	m.notes, m.classes = s.notes, classes
	return m, nil
}

// thresholds are those of the decoder, and those from which on a detection
// counts where the decoder's are lower. A class's own comes from the model file.
func (s *parties) thresholds() (decoder, counts head.Options) {
	o, f := s.options, s.file
	if o.Confidence > 0 && f.Confidence > 0 {
		s.note("confidence: %v of the configuration wins over %v of the model file", o.Confidence, f.Confidence)
	}
	if o.IoU > 0 && f.IoU > 0 {
		s.note("iou: %v of the configuration wins over %v of the model file", o.IoU, f.IoU)
	}
	decoder = head.Options{
		Confidence: cmp.Or(o.Confidence, f.Confidence), IoU: cmp.Or(o.IoU, f.IoU), ClassConfidence: f.ClassConfidence,
	}
	if o.Floor == 0 {
		return decoder, counts
	}
	counts = head.Options{Confidence: cmp.Or(decoder.Confidence, head.DefaultConfidence), ClassConfidence: f.ClassConfidence}
	decoder.Confidence, decoder.ClassConfidence = min(counts.Confidence, o.Floor), maps.Clone(f.ClassConfidence)
	for class, own := range f.ClassConfidence {
		decoder.ClassConfidence[class] = min(own, o.Floor)
	}
	return decoder, counts
}

// ask reads the graph, its metadata and the model file.
func ask(o Options) (from parties, err error) {
	from.options = o
	if from.graph, from.props, err = o.file().graph(); err != nil {
		return from, err
	}
	f := o.File
	if f == nil && o.Model == nil {
		if f, err = modelfile.Find(o.ModelPath); err != nil {
			return from, err
		}
	}
	if f != nil {
		from.file = *f
		from.note("model file: %s", cmp.Or(f.Path, "given"))
	}
	if from.meta, err = modelfile.ReadMetadata(from.props); err != nil && len(from.file.Classes)+len(o.Classes) == 0 {
		return from, err
	}
	if task := from.meta.Task; task != "" && task != "detect" {
		return from, fmt.Errorf("the graph's metadata says that its task is %q, want detect: this is no detector", task)
	}
	return from, nil
}

// classes are their names, and whether anybody gave them.
func (s *parties) classes() (classes []string, named bool) {
	said := []struct {
		by    string
		names []string
	}{{"the configuration", s.options.Classes}, {"the model file", s.file.Classes}, {"the graph's metadata", s.meta.Classes}}
	for _, by := range said {
		if len(by.names) == 0 {
			continue
		}
		if named {
			s.note("classes: the %d of %s are not used", len(by.names), by.by)
			continue
		}
		s.note("classes: the %d of %s", len(by.names), by.by)
		classes, named = by.names, true
	}
	if !named {
		s.note("classes: COCO's 80, since nobody names others")
		classes = vision.COCO()
	}
	return classes, named
}

// form is the form of the outputs, and those as they are seen in a run where
// the graph leaves something open that does not depend on the picture.
func (s *parties) form(m shape, classes []string, named bool) (head.Form, []head.Port, error) {
	seen, first, err := look(s.options, m, s.graph)
	if err != nil {
		return "", nil, err
	}
	g := head.Graph{Inputs: s.graph.Inputs, Outputs: seen}
	form := head.Form(s.file.Head)
	if form != "" {
		s.note("head: %s, named in the model file", form)
		if err := form.Check(g, len(classes), m.width, m.height); err != nil {
			return "", nil, err
		}
	} else {
		candidates, err := head.Recognise(g, len(classes), m.width, m.height)
		if len(candidates) > 1 && candidates[0] == head.YOLOX {
			candidates, err = tellYOLOX(s.options, m, g, first, candidates, err)
		}
		if err != nil {
			return "", nil, err
		}
		form = candidates[0]
		s.note("head: %s, recognised from the outputs", form)
	}
	if !named && !form.CountsClasses() {
		return "", nil, fmt.Errorf("head %s: the outputs do not show how many classes there are; name classes in model.yaml", form)
	}
	if form.Varies() {
		seen = s.graph.Outputs
	}
	return form, seen, nil
}

// preparation is what is done to a picture. That a model with such outputs was
// trained with such pictures is certain only where somebody says so.
func (s *parties) preparation(form head.Form, input head.Type) (head.Preparation, error) {
	usual, known := form.Usual()
	p := head.Preparation{Scale: 1, Std: [3]float64{1, 1, 1}}
	missing := []string{}
	if known && (s.file.Head != "" || s.meta.Ultralytics || form == head.YOLOX) {
		p = usual
	} else {
		missing = s.missing(input)
	}
	if len(missing) > 0 {
		hint := ""
		if known {
			hint = fmt.Sprintf(", or name head: %s, whose family wants %v", form, usual)
		}
		return p, fmt.Errorf("the outputs are those of %s, but the graph does not say how its pictures are to be prepared: say %s in model.yaml%s",
			form, strings.Join(missing, ", "), hint)
	}
	p.Colour, p.Letterbox = cmp.Or(s.file.Colour, p.Colour), cmp.Or(s.file.Letterbox, p.Letterbox)
	if s.file.Pad != nil {
		p.Pad = *s.file.Pad
	}
	if n := s.file.Normalise; n != nil {
		p.Scale, p.Mean, p.Std = n.Scale, n.Mean, n.Std
	}
	if input == head.Uint8 {
		if s.file.Normalise != nil && !p.Raw() {
			return p, errors.New("normalise: the graph takes uint8, which is what a pixel is; leave it out of model.yaml")
		}
		p.Scale, p.Mean, p.Std = 1, [3]float64{}, [3]float64{1, 1, 1}
	}
	s.note("pictures: %v", p)
	return p, nil
}

// missing are the keys that a model file lacks to say all of a preparation.
func (s *parties) missing(input head.Type) (keys []string) {
	if s.file.Colour == "" {
		keys = append(keys, "colour")
	}
	if s.file.Normalise == nil && input != head.Uint8 {
		keys = append(keys, "normalise")
	}
	if s.file.Letterbox == "" {
		keys = append(keys, "letterbox")
	}
	if s.file.Pad == nil && s.file.Letterbox != head.LetterboxStretch {
		keys = append(keys, "pad")
	}
	return keys
}
