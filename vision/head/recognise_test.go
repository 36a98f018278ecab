package head

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

func ports(names string, dims ...[]int) (out []Port) {
	for i, name := range strings.Fields(names) {
		out = append(out, Port{Name: name, Type: Float32, Dims: dims[i]})
	}
	return out
}

// TestRecognise: 640×640 has 8,400 cells.
func TestRecognise(t *testing.T) {
	sizes := []Port{{Name: SizesInput, Type: Int64, Dims: []int{-1, 2}}}
	cases := map[string]struct {
		outputs []Port
		inputs  []Port
		classes int
		want    []Form
	}{
		"YOLOX, or decoded, or YOLOv6": {ports("output", []int{1, 8400, 85}), nil, 80, []Form{YOLOX, YOLOXDecoded, YOLOv6}},
		"one class is not a list":      {ports("output", []int{1, 8400, 6}), nil, 1, []Form{YOLOX, YOLOXDecoded, YOLOv6}},
		"YOLOv5":                       {ports("output0", []int{1, 25200, 85}), nil, 80, []Form{YOLOv5}},
		"YOLOv5 with a fourth grid":    {ports("output0", []int{1, 25500, 85}), nil, 80, []Form{YOLOv5}},
		"YOLOv8":                       {ports("output0", []int{-1, 84, 8400}), nil, 80, []Form{YOLOv8}},
		"a list":                       {ports("output0", []int{1, 300, 6}), nil, 80, []Form{YOLOv10}},
		"a list, or queries":           {ports("output0", []int{1, 300, 6}), nil, 2, []Form{YOLOv10, RTDETRUltralytics}},
		"a list by image":              {ports("output", []int{-1, 7}), nil, 80, []Form{End2End}},
		"EfficientNMS": {ports("num_dets det_boxes det_scores det_classes", []int{1, 1}, []int{1, 100, 4}, []int{1, 100}, []int{1, 100}),
			nil, 80, []Form{EfficientNMS}},
		"RT-DETR":                {ports("logits pred_boxes", []int{1, 300, 80}, []int{1, 300, 4}), nil, 80, []Form{RTDETR}},
		"RT-DETR of ultralytics": {ports("output0", []int{1, 300, 84}), nil, 80, []Form{RTDETRUltralytics}},
		"RT-DETR deployed":       {ports("labels boxes scores", []int{-1, 300}, []int{-1, 300, 4}, []int{-1, 300}), sizes, 80, []Form{RTDETRDeploy}},
		"SSD":                    {ports("scores boxes", []int{1, 3000, 21}, []int{1, 3000, 4}), nil, 20, []Form{SSD}},
		"TensorFlow, with what else it says": {ports("detection_boxes detection_classes raw_detection_boxes detection_scores num_detections",
			[]int{1, 100, 4}, []int{1, 100}, []int{1, 1917, 4}, []int{1, 100}, []int{1}), nil, 90, []Form{TF}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			got, err := Recognise(Graph{c.inputs, c.outputs}, c.classes, 640, 640)
			if !slices.Equal(got, c.want) || (len(c.want) == 1) != (err == nil) {
				t.Fatalf("got %v, %v; want %v", got, err, c.want)
			}
			if err == nil {
				return
			}
			for _, f := range c.want {
				if !errors.Is(err, ErrUnknown) || !strings.Contains(err.Error(), string(f)) || !strings.Contains(err.Error(), "model.yaml") {
					t.Errorf("%v: want the candidates %v, and model.yaml", err, c.want)
				}
			}
		})
	}
}

// TestNothingIsGuessed: outputs of no form, and the reason.
func TestNothingIsGuessed(t *testing.T) {
	cases := map[string]struct {
		outputs []Port
		classes int
		want    []string
	}{
		"another number of classes": {ports("output", []int{1, 84, 8400}), 2, []string{"yolov8", "80 classes", "2 are named"}},
		"not decoded":               {ports("a b c", []int{1, 3, 80, 80, 85}, []int{1, 3, 40, 40, 85}, []int{1, 3, 20, 20, 85}), 80, []string{"a float32 1×3×80×80×85", "yolov5 ("}},
		"masks":                     {ports("output0 output1", []int{1, 116, 8400}, []int{1, 32, 160, 160}), 80, []string{"none of the known"}},
		"boxes without sizes":       {ports("labels boxes scores", []int{1, 300}, []int{1, 300, 4}, []int{1, 300}), 80, []string{"none of the known"}},
		"DETR's last class is none": {ports("pred_logits pred_boxes", []int{1, 100, 92}, []int{1, 100, 4}), 91, []string{"92 classes"}},
		"scores without background": {ports("scores boxes", []int{1, 3000, 20}, []int{1, 3000, 4}), 20, []string{"ssd", "19 classes"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			got, err := Recognise(Graph{nil, c.outputs}, c.classes, 640, 640)
			if len(got) != 0 || !errors.Is(err, ErrUnknown) {
				t.Fatalf("got %v, %v; want an error", got, err)
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q does not say %q", err, want)
				}
			}
		})
	}
}

// TestCheckSaysWhatANamedHeadWants for a head that is named and is not the one.
func TestCheckSaysWhatANamedHeadWants(t *testing.T) {
	g := Graph{Outputs: ports("output0", []int{1, 84, 8400})}
	if err := YOLOv8.Check(g, 80, 640, 640); err != nil {
		t.Error(err)
	}
	for want, err := range map[string]error{
		"outputs are for 80 classes, 3 are named": YOLOv8.Check(g, 3, 640, 640),
		"yolov5 wants one output, 3 × cells":      YOLOv5.Check(g, 80, 640, 640),
		"want one of yolox,":                      Form("yolo").Check(g, 80, 640, 640),
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

// TestTellYOLOX: values around the cell, around the cell in the picture, and
// neither.
func TestTellYOLOX(t *testing.T) {
	cells := yoloxCells(96, 64)
	make6 := func(value func(cell) [6]float32) (t Tensor) {
		for _, c := range cells {
			v := value(c)
			t.Data = append(t.Data, v[:]...)
		}
		t.Dims = []int{len(cells), 6}
		return t
	}
	raw := make6(func(c cell) [6]float32 { return [6]float32{0.3, 1.2, -1, 0.5} })
	decoded := make6(func(c cell) [6]float32 { return [6]float32{(c.x + 0.3) * c.stride, (c.y + 1.2) * c.stride, 8, 9} })
	negative := make6(func(c cell) [6]float32 { return [6]float32{(c.x + 0.3) * c.stride, (c.y + 1.2) * c.stride, 8, -9} })
	if got := TellYOLOX(raw, 96, 64); !slices.Equal(got, []Form{YOLOX}) {
		t.Errorf("got %v, want yolox", got)
	}
	if got := TellYOLOX(decoded, 96, 64); !slices.Equal(got, []Form{YOLOXDecoded, YOLOv6}) {
		t.Errorf("got %v, want the two that are decoded", got)
	}
	for what, out := range map[string]Tensor{"a negative size": negative, "another size": {[]int{1, 6}, make([]float32, 6)}} {
		if got := TellYOLOX(out, 96, 64); got != nil {
			t.Errorf("%s: got %v, want nothing", what, got)
		}
	}
	small := Tensor{[]int{21, 6}, make([]float32, 21*6)}
	if got := TellYOLOX(small, 32, 32); got != nil {
		t.Errorf("an input too small to tell: got %v, want nothing", got)
	}
}
