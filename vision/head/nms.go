package head

import (
	"fmt"

	"outstation/vision"
)

// listed decodes rows that are detections already: the graph ends with NMS, or
// needs none. Corners are in pixels of the input. Either a row is x0, y0, x1,
// y1, score, class (YOLOv8 and YOLO11 exported with nms=True, YOLOv10 and
// YOLO26 always), or, with images, it is image, x0, y0, x1, y1, class, score
// (end-to-end exports of YOLOv6 and YOLOv7 for ONNX Runtime).
type listed struct {
	boxes
	images bool
}

func newListed(opts Options, outputs []Port) (Decoder, error) {
	b, err := newBoxes(opts, 0)
	return &listed{boxes: b}, err
}

func newListedByImage(opts Options, outputs []Port) (Decoder, error) {
	b, err := newBoxes(opts, 0)
	return &listed{boxes: b, images: true}, err
}

// Decode takes the rows whose score reaches the threshold. See Decoder.
func (l *listed) Decode(out []Tensor, at Placement) ([]vision.Detection, error) {
	if err := l.count(out); err != nil {
		return nil, err
	}
	columns := 6
	if l.images {
		columns = 7
	}
	n, err := rows("the output", out[0], columns)
	if err != nil {
		return nil, err
	}
	l.begin()
	for i := range n {
		row := out[0].Data[i*columns : (i+1)*columns]
		if l.images {
			if row[0] != float32(at.Image) {
				continue
			}
			row = []float32{row[1], row[2], row[3], row[4], row[6], row[5]}
		}
		if err := l.cornered(float64(row[0]), float64(row[1]), float64(row[2]), float64(row[3]), float64(row[4]), row[5], i); err != nil {
			return nil, err
		}
	}
	return l.finish(at, true)
}

// columns4 decodes detections whose number, boxes, scores and classes are an
// output each. Rows from the number on are padding.
type columns4 struct {
	boxes
	xScale, yScale float64 // from the graph's units to pixels of the input
	yFirst         bool    // corners are y0, x0, y1, x1
	first          float32 // the number of the first class
}

// newEfficientNMS is the layout of TensorRT's plugin EfficientNMS: num_dets,
// det_boxes, det_scores, det_classes; corners in pixels, classes from 0.
func newEfficientNMS(opts Options, outputs []Port) (Decoder, error) {
	at, err := named(outputs, "num", "boxes", "scores", "classes")
	if err != nil {
		return nil, err
	}
	b, err := newBoxes(opts, at...)
	return &columns4{boxes: b, xScale: 1, yScale: 1}, err
}

// newTF is the layout of TensorFlow's Object Detection API: detection_boxes as
// y0, x0, y1, x1 in [0, 1], detection_scores, detection_classes from 1, and
// num_detections.
func newTF(opts Options, outputs []Port) (Decoder, error) {
	at, err := named(outputs, "num_detections", "detection_boxes", "detection_scores", "detection_classes")
	if err != nil {
		return nil, err
	}
	b, err := newBoxes(opts, at...)
	return &columns4{boxes: b, xScale: float64(opts.Width), yScale: float64(opts.Height), yFirst: true, first: 1}, err
}

// Decode takes the rows whose score reaches the threshold. See Decoder.
func (c *columns4) Decode(out []Tensor, at Placement) ([]vision.Detection, error) {
	if err := c.count(out); err != nil {
		return nil, err
	}
	num, box, scores, classes := out[0].Data, out[1], out[2].Data, out[3].Data
	all, err := rows("the output of boxes", box, 4)
	if err != nil {
		return nil, err
	}
	if len(num) != 1 || len(scores) != all || len(classes) != all {
		return nil, fmt.Errorf("vision: outputs of %d numbers, %d boxes, %d scores and %d classes, want 1 number and as many of each",
			len(num), all, len(scores), len(classes))
	}
	if !(num[0] >= 0 && num[0] <= float32(all)) {
		return nil, fmt.Errorf("vision: the model says %v detections, want 0 to %d", num[0], all)
	}
	c.begin()
	for i := range int(num[0]) {
		x0, y0, x1, y1 := corners(box.Data[4*i:])
		if c.yFirst {
			x0, y0, x1, y1 = y0, x0, y1, x1
		}
		if err := c.cornered(x0*c.xScale, y0*c.yScale, x1*c.xScale, y1*c.yScale, float64(scores[i]), classes[i]-c.first, i); err != nil {
			return nil, err
		}
	}
	return c.finish(at, true)
}

func corners(v []float32) (x0, y0, x1, y1 float64) {
	return float64(v[0]), float64(v[1]), float64(v[2]), float64(v[3])
}
