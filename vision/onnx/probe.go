//go:build !novision

package onnx

import (
	"errors"
	"fmt"
	"slices"

	"outstation/vision/head"
)

// look returns the outputs with their true dimensions. Where the graph leaves
// some open it is run once, and its outputs are returned too.
func look(o Options, s shape, g head.Graph) (seen []head.Port, first []head.Tensor, err error) {
	if !slices.ContainsFunc(g.Outputs, leftOpen) {
		return g.Outputs, nil, nil
	}
	first, err = probe(o, s)
	if err != nil {
		return nil, nil, err
	}
	for i, p := range g.Outputs {
		p.Dims = append([]int{p.Dims[0]}, first[i].Dims...)
		seen = append(seen, p)
	}
	return seen, first, nil
}

// tellYOLOX decides between forms that differ in their values only.
func tellYOLOX(o Options, s shape, g head.Graph, first []head.Tensor, candidates []head.Form, unsure error) ([]head.Form, error) {
	if first == nil {
		var err error
		if first, err = probe(o, s); err != nil {
			return nil, err
		}
	}
	left := head.TellYOLOX(first[0], s.width, s.height)
	if len(left) == 1 {
		return left, nil
	}
	if left == nil {
		return candidates, unsure
	}
	return left, fmt.Errorf("%w: %v, in pixels, may be those of %v, whose pictures are prepared differently; name one as head in model.yaml",
		head.ErrUnknown, g.Outputs, left)
}

// probe runs the model once, on the CPU, on a black picture, and returns all of
// its outputs.
func probe(o Options, s shape) (out []head.Tensor, err error) {
	s.prep = head.Preparation{Colour: head.BGR, Scale: 1, Std: [3]float64{1, 1, 1}}
	b, err := bind(o, ProviderCPU, s, []int{max(1, s.batch)})
	if err != nil {
		return nil, fmt.Errorf("a first run: %w", err)
	}
	defer func() { err = errors.Join(err, b.close()) }()
	for _, t := range b.outputs(0) {
		out = append(out, head.Tensor{Dims: slices.Clone(t.Dims), Data: slices.Clone(t.Data)})
	}
	return out, nil
}
