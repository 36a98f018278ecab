package head

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// ErrUnknown is wrapped when no form, or more than one, fits a graph.
var ErrUnknown = errors.New("cannot tell how to read the model's outputs")

// Check reports whether the outputs of a graph are those of a form, for so many
// classes and an input of so many pixels.
func (f Form) Check(g Graph, classes, width, height int) error {
	found, err := find(f)
	if err != nil {
		return err
	}
	d := dimensions{classes, width, height}
	if found.fits(g, d) {
		return nil
	}
	for _, other := range counts(g) {
		if d.classes = other; found.fits(g, d) {
			return fmt.Errorf("head %s: the outputs are for %d classes, %d are named", f, other, classes)
		}
	}
	return fmt.Errorf("head %s wants %s (%d classes, %d cells), got %v", f, found.wants, classes, dimensions{classes, width, height}.grid(32), g.Outputs)
}

// Recognise finds the form of a graph's outputs by their names, number, shapes
// and types alone. Where several forms have such outputs they are all returned
// with an error, which says to name one; where none has, the error says what
// each form's would be.
func Recognise(g Graph, classes, width, height int) ([]Form, error) {
	fit := fitting(g, dimensions{classes, width, height})
	switch len(fit) {
	case 1:
		return fit, nil
	case 0:
		return nil, unknown(g, dimensions{classes, width, height})
	}
	return fit, fmt.Errorf("%w: %v may be those of %s; name one as head in model.yaml", ErrUnknown, g.Outputs, join(fit))
}

func fitting(g Graph, d dimensions) (names []Form) {
	for _, f := range forms() {
		if f.fits(g, d) {
			names = append(names, f.name)
		}
	}
	return names
}

// unknown says why nothing fits: another number of classes, or outputs that
// are of no form.
func unknown(g Graph, d dimensions) error {
	for _, n := range counts(g) {
		if fit := fitting(g, dimensions{n, d.width, d.height}); len(fit) > 0 {
			return fmt.Errorf("%w: %v are those of %s with %d classes, but %d are named", ErrUnknown, g.Outputs, join(fit), n, d.classes)
		}
	}
	var known []string
	for _, f := range forms() {
		known = append(known, fmt.Sprintf("%s (%s)", f.name, f.wants))
	}
	return fmt.Errorf("%w: %v, with %d classes and %d cells, are of none of the known forms: %s",
		ErrUnknown, g.Outputs, d.classes, d.grid(32), strings.Join(known, "; "))
}

// counts are the numbers of classes that the outputs' dimensions may stand for.
func counts(g Graph) (n []int) {
	for _, p := range g.Outputs {
		for _, d := range p.Dims {
			for _, other := range []int{5, 4, 1, 0} { // columns that are no class
				if d > other {
					n = append(n, d-other)
				}
			}
		}
	}
	slices.Sort(n)
	return slices.Compact(n)
}

// TellYOLOX says which of the forms that rows of one prediction a cell may have
// is the one in an output, the values of a picture of one colour. A YOLOX that
// is not decoded says where in its cell a centre is, so that all values are
// alike; one that is decoded says where in the picture, so that they follow the
// grid. It returns nil where nine of ten cells do not agree.
func TellYOLOX(out Tensor, width, height int) []Form {
	cells := yoloxCells(width, height)
	if len(out.Dims) != 2 || out.Dims[0] != len(cells) || out.Dims[1] < 6 {
		return nil
	}
	var raw, decoded, all int
	for i, at := range cells {
		row := out.Data[i*out.Dims[1]:]
		if at.x < 4 && at.y < 4 {
			continue // too near the corner to tell
		}
		all++
		inCell := abs(row[0]-0.5) + abs(row[1]-0.5)
		inPicture := abs(row[0]/at.stride-at.x-0.5) + abs(row[1]/at.stride-at.y-0.5)
		switch {
		case inCell < inPicture:
			raw++
		case row[2] >= 0 && row[3] >= 0:
			decoded++
		}
	}
	switch {
	case all > 0 && raw*10 >= all*9:
		return []Form{YOLOX}
	case all > 0 && decoded*10 >= all*9:
		return []Form{YOLOXDecoded, YOLOv6}
	}
	return nil
}

func abs(v float32) float32 { return max(v, -v) }
