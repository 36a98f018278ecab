package head

import (
	"fmt"
	"strings"
)

// Form is a form in which detection models are exported, by the name that
// model.yaml gives it.
type Form string

// The forms that can be decoded.
const (
	YOLOX             Form = "yolox"
	YOLOXDecoded      Form = "yolox-decoded"
	YOLOv5            Form = "yolov5" // and YOLOv7
	YOLOv6            Form = "yolov6"
	YOLOv8            Form = "yolov8"  // and YOLOv9, YOLO11
	YOLOv10           Form = "yolov10" // and YOLO26, and YOLOv8 and YOLO11 with NMS inside
	End2End           Form = "yolov7-end2end"
	EfficientNMS      Form = "efficient-nms"
	RTDETR            Form = "rtdetr" // and D-FINE
	RTDETRUltralytics Form = "rtdetr-ultralytics"
	RTDETRDeploy      Form = "rtdetr-deploy"
	SSD               Form = "ssd"
	TF                Form = "tf-detection"
)

// form is what is known of a Form.
type form struct {
	name   Form
	wants  string                       // its outputs, in words, without the batch
	fits   func(Graph, dimensions) bool // whether a graph's outputs are such
	decode func(Options, []Port) (Decoder, error)
	counts bool         // the outputs show how many classes there are
	varies bool         // a number of rows that the graph leaves open depends on the picture
	usual  *Preparation // that of the family; nil where families differ
}

// dimensions are what the sizes of a model's outputs follow from.
type dimensions struct{ classes, width, height int }

// grid is the number of cells of strides 8 to last.
func (d dimensions) grid(last int) (cells int) {
	for stride := 8; stride <= last; stride *= 2 {
		cells += (d.width / stride) * (d.height / stride)
	}
	return cells
}

// forms are all that is decoded, in the order in which errors name them.
func forms() []form {
	return []form{
		{YOLOX, "one output, cells × (5 + classes), not decoded", fitsCells, newYOLOX, true, false, &yoloxUsual},
		{YOLOXDecoded, "one output, cells × (5 + classes), in pixels", fitsCells, newYOLORows, true, false, &yoloxUsual},
		{YOLOv6, "one output, cells × (5 + classes), in pixels", fitsCells, newYOLORows, true, false, &yoloUsual},
		{YOLOv5, "one output, 3 × cells × (5 + classes), in pixels", fitsAnchors, newYOLORows, true, false, &yoloUsual},
		{YOLOv8, "one output, (4 + classes) × cells", fitsYOLOv8, newYOLOv8, true, false, &yoloUsual},
		{YOLOv10, "one output, N × 6 (x0, y0, x1, y1, score, class)", fitsListed, newListed, false, true, &yoloUsual},
		{End2End, "one output, N × 7 (image, x0, y0, x1, y1, class, score)", fitsByImage, newListedByImage, false, true, &yoloUsual},
		{EfficientNMS, "num_dets, det_boxes, det_scores, det_classes", fitsEfficient, newEfficientNMS, false, true, nil},
		{RTDETR, "logits N × classes and boxes N × 4", fitsDETR, newDETR, true, false, &detrUsual},
		{RTDETRUltralytics, "one output, N × (4 + classes)", fitsDETRRows, newDETRRows, true, false, &detrUsual},
		{RTDETRDeploy, "labels, boxes, scores, and a second input " + SizesInput, fitsDeploy, newDETRDeployed, false, false, &detrUsual},
		{SSD, "boxes N × 4 and scores N × (1 + classes)", fitsSSD, newSSD, true, false, nil},
		{TF, "detection_boxes, detection_scores, detection_classes, num_detections", fitsTF, newTF, false, true, nil},
	}
}

// Forms are the names of all forms.
func Forms() []Form {
	var names []Form
	for _, f := range forms() {
		names = append(names, f.name)
	}
	return names
}

func find(name Form) (form, error) {
	for _, f := range forms() {
		if f.name == name {
			return f, nil
		}
	}
	return form{}, fmt.Errorf("head %q: want one of %s", name, join(Forms()))
}

// Usual is how pictures of a form's family are prepared; ok is false where
// families differ, so that a model of this form has to say it.
func (f Form) Usual() (p Preparation, ok bool) {
	found, err := find(f)
	if err != nil || found.usual == nil {
		return Preparation{}, false
	}
	return *found.usual, true
}

// CountsClasses reports whether the outputs show how many classes there are.
func (f Form) CountsClasses() bool {
	found, err := find(f)
	return err == nil && found.counts
}

// Varies reports whether a number of rows that the graph leaves open depends
// on the picture. Of other forms it is the same for every picture.
func (f Form) Varies() bool {
	found, err := find(f)
	return err == nil && found.varies
}

// New returns the decoder of a form for a graph with these outputs. Where the
// graph leaves a dimension open, Decode checks it.
func New(f Form, opts Options, outputs []Port) (Decoder, error) {
	found, err := find(f)
	if err != nil {
		return nil, fmt.Errorf("vision: %w", err)
	}
	d, err := found.decode(opts, outputs)
	if err != nil {
		return nil, fmt.Errorf("vision: head %s: %w", f, err)
	}
	return d, nil
}

func single(g Graph, dims ...int) bool { return len(g.Outputs) == 1 && g.Outputs[0].is(dims...) }

func fitsCells(g Graph, d dimensions) bool { return single(g, d.grid(32), 5+d.classes) }

// fitsAnchors also knows the larger models, which have a fourth grid.
func fitsAnchors(g Graph, d dimensions) bool {
	return single(g, 3*d.grid(32), 5+d.classes) || single(g, 3*d.grid(64), 5+d.classes)
}

func fitsYOLOv8(g Graph, d dimensions) bool { return single(g, 4+d.classes, -1) }

// fitsListed leaves rows of one class, one for each cell, to the forms above.
func fitsListed(g Graph, d dimensions) bool {
	d.classes = 1
	return single(g, -1, 6) && !fitsCells(g, d) && !fitsAnchors(g, d)
}

// fitsByImage looks at an output without a batch.
func fitsByImage(g Graph, _ dimensions) bool { return single(g, 7) }

func fitsDETRRows(g Graph, d dimensions) bool { return single(g, -1, 4+d.classes) }

// fitsDETR and fitsSSD tell themselves apart by the number of columns, and by
// name: another network may have as many columns, and its scores may be a
// softmax over classes of which the last is none (DETR).
func fitsDETR(g Graph, d dimensions) bool {
	_, logits, err := boxesAndScores(g.Outputs)
	return err == nil && g.Outputs[logits].is(-1, d.classes) && strings.Contains(g.Outputs[logits].Name, "logits")
}

func fitsSSD(g Graph, d dimensions) bool {
	_, scores, err := boxesAndScores(g.Outputs)
	return err == nil && g.Outputs[scores].is(-1, 1+d.classes) && strings.Contains(g.Outputs[scores].Name, "scores")
}

func fitsDeploy(g Graph, _ dimensions) bool {
	at, err := named(g.Outputs, "labels", "boxes", "scores")
	return err == nil && g.hasSizes() && lists(g, at[1], at[0], at[2])
}

func fitsEfficient(g Graph, _ dimensions) bool {
	at, err := named(g.Outputs, "num_dets", "det_boxes", "det_scores", "det_classes")
	return err == nil && lists(g, at[1], at[2], at[3])
}

func fitsTF(g Graph, _ dimensions) bool {
	at, err := named(g.Outputs, "num_detections", "detection_boxes", "detection_scores", "detection_classes")
	return err == nil && lists(g, at[1], at[2], at[3])
}

// lists reports whether the outputs are N × 4 boxes and N of each of two others.
func lists(g Graph, boxes, a, b int) bool {
	return g.Outputs[boxes].is(-1, 4) && g.Outputs[a].is(-1) && g.Outputs[b].is(-1)
}

func join(names []Form) string {
	var words []string
	for _, n := range names {
		words = append(words, string(n))
	}
	return strings.Join(words, ", ")
}
