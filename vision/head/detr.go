package head

import (
	"fmt"
	"math"

	"outstation/vision"
)

// detr decodes the two outputs of RT-DETR (Zhao et al. 2023, "DETRs Beat YOLOs
// on Real-time Object Detection", arXiv:2304.08069) and D-FINE: logits, queries
// × classes, and boxes, queries × centre x, centre y, width, height, in [0, 1]
// of the input. The sigmoid of a logit is its class's score; of all scores of
// all queries the highest are taken, as many as there are queries. Nothing is
// suppressed: the network was trained to name each object once.
type detr struct {
	boxes
	logit []float32 // the thresholds before the sigmoid, by class
}

func newDETR(opts Options, outputs []Port) (Decoder, error) {
	boxesAt, logitsAt, err := boxesAndScores(outputs)
	if err != nil {
		return nil, err
	}
	b, err := newBoxes(opts, logitsAt, boxesAt)
	d := &detr{boxes: b}
	for _, p := range b.threshold {
		d.logit = append(d.logit, float32(math.Log(p/(1-p)))-1e-4) // float32 may round up; enough judges
	}
	return d, err
}

// Decode looks at the sigmoid only of logits that reach their threshold. See
// Decoder.
func (d *detr) Decode(out []Tensor, at Placement) ([]vision.Detection, error) {
	if err := d.count(out); err != nil {
		return nil, err
	}
	classes := len(d.opts.Classes)
	n, err := pair(out[0], classes, out[1], 4)
	if err != nil {
		return nil, err
	}
	d.begin()
	for i, logit := range out[0].Data {
		class, query := i%classes, i/classes
		if !(logit >= d.logit[class]) {
			continue
		}
		if score := 1 / (1 + math.Exp(-float64(logit))); d.enough(class, score) {
			d.relative(out[1].Data[4*query:], score, class, query)
		}
	}
	found, err := d.finish(at, true)
	return found[:min(len(found), n)], err
}

// relative adds a candidate whose box is relative to the input.
func (b *boxes) relative(v []float32, score float64, class, index int) {
	w, h := float64(b.opts.Width), float64(b.opts.Height)
	b.centred(float64(v[0])*w, float64(v[1])*h, float64(v[2])*w, float64(v[3])*h, score, class, index)
}

// detrRows decodes RT-DETR as ultralytics exports it: queries × (centre x,
// centre y, width, height in [0, 1] of the input, then the score of each class).
type detrRows struct{ boxes }

func newDETRRows(opts Options, outputs []Port) (Decoder, error) {
	b, err := newBoxes(opts, 0)
	return &detrRows{b}, err
}

// Decode gives a query the class with its highest score. See Decoder.
func (d *detrRows) Decode(out []Tensor, at Placement) ([]vision.Detection, error) {
	if err := d.count(out); err != nil {
		return nil, err
	}
	columns := 4 + len(d.opts.Classes)
	n, err := rows("the output", out[0], columns)
	if err != nil {
		return nil, err
	}
	d.begin()
	for i := range n {
		row := out[0].Data[i*columns : (i+1)*columns]
		if class, score := argmax(row[4:]); d.enough(class, float64(score)) {
			d.relative(row, float64(score), class, i)
		}
	}
	return d.finish(at, true)
}

// detrDeployed decodes RT-DETR and D-FINE as their own export scripts write
// them: labels, boxes and scores, one of each a query. Their second input,
// orig_target_sizes, is the size that boxes are wanted for; it is given the
// input's own, so that boxes are corners in pixels of the input.
type detrDeployed struct{ boxes }

func newDETRDeployed(opts Options, outputs []Port) (Decoder, error) {
	at, err := named(outputs, "labels", "boxes", "scores")
	if err != nil {
		return nil, err
	}
	b, err := newBoxes(opts, at...)
	return &detrDeployed{b}, err
}

// Decode takes the rows whose score reaches the threshold. See Decoder.
func (d *detrDeployed) Decode(out []Tensor, at Placement) ([]vision.Detection, error) {
	if err := d.count(out); err != nil {
		return nil, err
	}
	labels, box, scores := out[0].Data, out[1], out[2].Data
	n, err := rows("the output of boxes", box, 4)
	if err != nil {
		return nil, err
	}
	if len(labels) != n || len(scores) != n {
		return nil, fmt.Errorf("vision: outputs of %d labels, %d boxes and %d scores, want as many of each", len(labels), n, len(scores))
	}
	d.begin()
	for i, score := range scores {
		x0, y0, x1, y1 := corners(box.Data[4*i:])
		if err := d.cornered(x0, y0, x1, y1, float64(score), labels[i], i); err != nil {
			return nil, err
		}
	}
	return d.finish(at, true)
}
