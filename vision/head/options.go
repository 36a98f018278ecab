package head

import (
	"errors"
	"fmt"
	"maps"
	"slices"
)

// Defaults of Options.
const (
	DefaultConfidence = 0.30
	DefaultIoU        = 0.45
)

// Options configures a Decoder.
type Options struct {
	Width, Height int      // the model's input in pixels
	Classes       []string // one name for each class, in the order of the model's outputs
	Confidence    float64  // least confidence, in (0, 1); 0 means DefaultConfidence
	IoU           float64  // overlap above which NMS removes the weaker box, in (0, 1]; 0 means DefaultIoU

	// ClassConfidence is the least confidence of classes that differ, by name.
	ClassConfidence map[string]float64
}

// check fills in defaults and reports every impossible option at once.
func (o Options) check() (Options, error) {
	if o.Confidence == 0 {
		o.Confidence = DefaultConfidence
	}
	if o.IoU == 0 {
		o.IoU = DefaultIoU
	}
	var errs []error
	if o.Width <= 0 || o.Height <= 0 {
		errs = append(errs, fmt.Errorf("input size %d×%d: want positive numbers of pixels", o.Width, o.Height))
	}
	if len(o.Classes) == 0 {
		errs = append(errs, errors.New("no classes"))
	}
	if !(o.Confidence > 0 && o.Confidence < 1) {
		errs = append(errs, fmt.Errorf("confidence %v: want more than 0 and less than 1", o.Confidence))
	}
	if !(o.IoU > 0 && o.IoU <= 1) {
		errs = append(errs, fmt.Errorf("IoU %v: want more than 0 and at most 1", o.IoU))
	}
	for _, name := range slices.Sorted(maps.Keys(o.ClassConfidence)) {
		if !slices.Contains(o.Classes, name) {
			errs = append(errs, fmt.Errorf("confidence of class %q: the model has no such class, only %q", name, o.Classes))
		}
		if v := o.ClassConfidence[name]; !(v > 0 && v < 1) {
			errs = append(errs, fmt.Errorf("confidence of class %q is %v: want more than 0 and less than 1", name, v))
		}
	}
	return o, errors.Join(errs...)
}

// thresholds are the least confidence of each class, and the lowest of them.
func (o Options) thresholds() (of []float64, least float64) {
	least = 1
	for _, name := range o.Classes {
		v, ok := o.ClassConfidence[name]
		if !ok {
			v = o.Confidence
		}
		of, least = append(of, v), min(least, v)
	}
	return of, least
}
