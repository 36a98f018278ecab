package modelfile

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"outstation/vision/head"
)

// document is the file as it is written.
type document struct {
	Head            string             `yaml:"head"`
	Classes         yaml.Node          `yaml:"classes"`
	Input           *size              `yaml:"input"`
	Colour          string             `yaml:"colour"`
	Normalise       *normalise         `yaml:"normalise"`
	Letterbox       string             `yaml:"letterbox"`
	Pad             *int               `yaml:"pad"`
	Confidence      *float64           `yaml:"confidence"`
	IoU             *float64           `yaml:"iou"`
	ClassConfidence map[string]float64 `yaml:"class_confidence"`
}

type size struct {
	Width  int `yaml:"width"`
	Height int `yaml:"height"`
}

type normalise struct {
	Scale string    `yaml:"scale"` // a number, or a fraction such as 1/255
	Mean  []float64 `yaml:"mean"`
	Std   []float64 `yaml:"std"`
}

// keys are those of the document, and of its mappings.
var keys = map[string][]string{
	"":          {"head", "classes", "input", "colour", "normalise", "letterbox", "pad", "confidence", "iou", "class_confidence"},
	"input":     {"width", "height"},
	"normalise": {"scale", "mean", "std"},
}

func parse(path string, data []byte) (*File, error) {
	var root yaml.Node
	if err := yaml.Unmarshal(data, &root); err != nil {
		return nil, fmt.Errorf("not YAML: %w", err)
	}
	f := &File{Path: path}
	if len(root.Content) == 0 {
		return f, nil
	}
	if err := strict(root.Content[0], ""); err != nil {
		return nil, err
	}
	var d document
	if err := root.Decode(&d); err != nil {
		return nil, err // yaml says the line
	}
	return f, errors.Join(d.input(f), d.picture(f), d.thresholds(f), d.classes(f))
}

// strict refuses keys that mean nothing.
func strict(n *yaml.Node, of string) error {
	if n.Kind != yaml.MappingNode {
		return fmt.Errorf("line %d: want a mapping of keys %s", n.Line, strings.Join(keys[of], ", "))
	}
	var errs []error
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if !slices.Contains(keys[of], key.Value) {
			errs = append(errs, fmt.Errorf("line %d: unknown key %q: want one of %s", key.Line, key.Value, strings.Join(keys[of], ", ")))
		} else if _, ok := keys[key.Value]; ok && of == "" {
			errs = append(errs, strict(value, key.Value))
		}
	}
	return errors.Join(errs...)
}

// input takes over what the model is.
func (d *document) input(f *File) error {
	var errs []error
	if d.Head != "" && !slices.Contains(head.Forms(), head.Form(d.Head)) {
		errs = append(errs, fmt.Errorf("head: got %q, want one of %v", d.Head, head.Forms()))
	}
	f.Head = d.Head
	if d.Input != nil {
		f.Width, f.Height = d.Input.Width, d.Input.Height
		if f.Width < 1 || f.Height < 1 || f.Width > 8192 || f.Height > 8192 {
			errs = append(errs, fmt.Errorf("input: got width %d and height %d, want both, 1 to 8192 pixels", f.Width, f.Height))
		}
	}
	return errors.Join(errs...)
}

// picture takes over how a picture is prepared.
func (d *document) picture(f *File) error {
	var errs []error
	f.Colour, f.Letterbox = head.Colour(d.Colour), head.Letterbox(d.Letterbox)
	if d.Colour != "" && f.Colour != head.BGR && f.Colour != head.RGB {
		errs = append(errs, fmt.Errorf("colour: got %q, want rgb or bgr", d.Colour))
	}
	if modes := []string{"", "top-left", "centre", "stretch"}; !slices.Contains(modes, d.Letterbox) {
		errs = append(errs, fmt.Errorf("letterbox: got %q, want top-left, centre or stretch", d.Letterbox))
	}
	if d.Pad != nil {
		pad := byte(*d.Pad)
		f.Pad = &pad
		if int(pad) != *d.Pad {
			errs = append(errs, fmt.Errorf("pad: got %d, want 0 to 255", *d.Pad))
		}
	}
	if d.Normalise != nil {
		n, err := d.Normalise.read()
		f.Normalise, errs = n, append(errs, err)
	}
	return errors.Join(errs...)
}

func (n *normalise) read() (*Normalise, error) {
	out := &Normalise{Scale: 1, Std: [3]float64{1, 1, 1}}
	var errs []error
	if n.Scale != "" {
		scale, err := fraction(n.Scale)
		out.Scale, errs = scale, append(errs, err)
	}
	if copy(out.Mean[:], n.Mean); n.Mean != nil && len(n.Mean) != 3 {
		errs = append(errs, fmt.Errorf("normalise.mean: got %d numbers, want 3, one a channel", len(n.Mean)))
	}
	if copy(out.Std[:], n.Std); n.Std != nil && len(n.Std) != 3 {
		errs = append(errs, fmt.Errorf("normalise.std: got %d numbers, want 3, one a channel", len(n.Std)))
	}
	for i := range 3 {
		if !(out.Std[i] > 0 && out.Std[i] <= 1e6) || !(out.Mean[i] >= -1e6 && out.Mean[i] <= 1e6) {
			errs = append(errs, fmt.Errorf("normalise: got mean %v and std %v, want numbers up to a million, std more than 0", n.Mean, n.Std))
			break
		}
	}
	return out, errors.Join(errs...)
}

// fraction reads a number or a quotient of two.
func fraction(text string) (float64, error) {
	over, under, quotient := strings.Cut(text, "/")
	a, err := strconv.ParseFloat(strings.TrimSpace(over), 64)
	b := 1.
	if quotient && err == nil {
		b, err = strconv.ParseFloat(strings.TrimSpace(under), 64)
	}
	if v := a / b; err == nil && v > 0 && v <= 1e6 {
		return v, nil
	}
	return 1, fmt.Errorf("normalise.scale: got %q, want a number more than 0, or a fraction such as 1/255", text)
}

func (d *document) thresholds(f *File) error {
	var errs []error
	if d.Confidence != nil {
		if f.Confidence = *d.Confidence; !(f.Confidence > 0 && f.Confidence < 1) {
			errs = append(errs, fmt.Errorf("confidence: got %v, want more than 0 and less than 1", f.Confidence))
		}
	}
	if d.IoU != nil {
		if f.IoU = *d.IoU; !(f.IoU > 0 && f.IoU <= 1) {
			errs = append(errs, fmt.Errorf("iou: got %v, want more than 0 and at most 1", f.IoU))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(d.ClassConfidence)) {
		if v := d.ClassConfidence[name]; !(v > 0 && v < 1) {
			errs = append(errs, fmt.Errorf("class_confidence.%s: got %v, want more than 0 and less than 1", name, v))
		}
	}
	f.ClassConfidence = d.ClassConfidence
	return errors.Join(errs...)
}

// classes takes over the list, or reads the file that it names.
func (d *document) classes(f *File) error {
	switch n := &d.Classes; {
	case n.Kind == yaml.SequenceNode:
		if err := n.Decode(&f.Classes); err != nil {
			return err
		}
	case n.Kind == yaml.ScalarNode && n.Tag != "!!null":
		name := n.Value
		if name != filepath.Base(name) {
			return fmt.Errorf("line %d: classes: got %q, want a list, or the name of a file in the directory of this one", n.Line, name)
		}
		data, err := read(filepath.Join(filepath.Dir(f.Path), name))
		if err != nil {
			return fmt.Errorf("line %d: classes: %w", n.Line, err)
		}
		f.Labels = name
		f.Classes = strings.Split(strings.TrimRight(strings.ReplaceAll(string(data), "\r\n", "\n"), "\n "), "\n")
	case n.Kind != 0 && n.Tag != "!!null":
		return fmt.Errorf("line %d: classes: want a list of names, or the name of a file with one a line", n.Line)
	default:
		return nil
	}
	for i, name := range f.Classes {
		if f.Classes[i] = strings.TrimSpace(name); f.Classes[i] == "" {
			return fmt.Errorf("classes: name %d of %d is empty, want a name", i+1, len(f.Classes))
		}
	}
	if len(f.Classes) == 0 {
		return errors.New("classes: got none, want at least one name")
	}
	return nil
}
