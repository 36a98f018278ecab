package modelfile

import (
	"fmt"
	"slices"

	"go.yaml.in/yaml/v3"
)

// Metadata is what an exporter wrote into the graph (ONNX's metadata_props).
type Metadata struct {
	Classes       []string // names
	Width, Height int      // imgsz
	Task          string   // task: detect, segment, …
	Ultralytics   bool     // the author of the exporter
}

// ReadMetadata understands the keys of ultralytics' exporters and of YOLOv5's;
// others are not looked at. Their values are Python's notation, which is YAML
// but for escaped quotes.
func ReadMetadata(props map[string]string) (m Metadata, err error) {
	m.Task, m.Ultralytics = props["task"], props["author"] == "Ultralytics"
	if text, ok := props["names"]; ok {
		if m.Classes, err = names(text); err != nil {
			return m, fmt.Errorf("the graph's own class names are not understood (%w): got %.100q; name classes in model.yaml", err, text)
		}
	}
	if text, ok := props["imgsz"]; ok {
		var sides []int // height, width
		if err := yaml.Unmarshal([]byte(text), &sides); err != nil || len(sides) != 2 {
			return m, fmt.Errorf("the graph's own input size is not understood: got imgsz %.100q, want [height, width]; say input in model.yaml", text)
		}
		m.Height, m.Width = sides[0], sides[1]
	}
	return m, nil
}

// names reads a list, or a mapping from 0, 1, 2, … .
func names(text string) ([]string, error) {
	var list []string
	if yaml.Unmarshal([]byte(text), &list) == nil {
		return list, nil
	}
	var byNumber map[int]string
	if err := yaml.Unmarshal([]byte(text), &byNumber); err != nil {
		return nil, err
	}
	list = make([]string, len(byNumber))
	for i, name := range byNumber {
		if i < 0 || i >= len(list) {
			return nil, fmt.Errorf("class %d of %d", i, len(list))
		}
		list[i] = name
	}
	if slices.Contains(list, "") {
		return nil, fmt.Errorf("a name is empty")
	}
	return list, nil
}
