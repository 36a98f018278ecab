//go:build !novision

package onnx

import (
	"fmt"
	"maps"
	"slices"

	"outstation/vision/head"
)

// Description is what can be said of a model without running it on a frame.
type Description struct {
	Graph    head.Graph
	Metadata []string // the exporter's, as key = value

	// Problem is why it cannot be used, and the rest is empty then.
	Problem       error
	Head          head.Form
	Width, Height int      // of the input, in pixels
	Batch         int      // pictures of a run, where the graph fixes it; else 0
	Settings      []string // what was settled, and by whom
}

// Describe reads a model as New does, for somebody who wants to know why New
// refuses it. An error says that there is no graph to describe.
func Describe(o Options) (d Description, err error) {
	if o, err = o.check(); err != nil {
		return d, err
	}
	if err := load(o.Library); err != nil {
		return d, err
	}
	from, err := ask(o)
	if err != nil && len(from.graph.Inputs) == 0 {
		return d, fmt.Errorf("onnx: model %s: %w", o.where(), err)
	}
	d.Graph = from.graph
	for _, key := range slices.Sorted(maps.Keys(from.props)) {
		d.Metadata = append(d.Metadata, fmt.Sprintf("%s = %.200s", key, from.props[key]))
	}
	m, problem := model{}, err
	if problem == nil {
		m, problem = from.settle()
	}
	if problem != nil {
		d.Problem = problem
		return d, nil
	}
	d.Head, d.Settings = m.shape.form, m.notes
	d.Width, d.Height, d.Batch = m.shape.width, m.shape.height, m.shape.batch
	return d, nil
}
