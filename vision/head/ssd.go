package head

import "outstation/vision"

// ssd decodes the two outputs of a single-shot detector (Liu et al. 2016,
// "SSD: Single Shot MultiBox Detector", arXiv:1512.02325) whose graph decodes
// its priors: boxes, corners x0, y0, x1, y1 in [0, 1] of the input, and scores,
// one a class after the background's, which is first. A box may be several
// classes; NMS runs within each.
type ssd struct{ boxes }

func newSSD(opts Options, outputs []Port) (Decoder, error) {
	boxesAt, scoresAt, err := boxesAndScores(outputs)
	if err != nil {
		return nil, err
	}
	b, err := newBoxes(opts, boxesAt, scoresAt)
	return &ssd{b}, err
}

// Decode takes each score that reaches its class's threshold. See Decoder.
func (s *ssd) Decode(out []Tensor, at Placement) ([]vision.Detection, error) {
	if err := s.count(out); err != nil {
		return nil, err
	}
	columns := 1 + len(s.opts.Classes)
	n, err := pair(out[0], 4, out[1], columns)
	if err != nil {
		return nil, err
	}
	w, h := float64(s.opts.Width), float64(s.opts.Height)
	s.begin()
	for i := range n {
		x0, y0, x1, y1 := corners(out[0].Data[4*i:])
		for class, score := range out[1].Data[i*columns+1 : (i+1)*columns] {
			if s.enough(class, float64(score)) {
				s.candidates = append(s.candidates, candidate{x0 * w, y0 * h, x1 * w, y1 * h, float64(score), class, i})
			}
		}
	}
	return s.finish(at, false)
}
