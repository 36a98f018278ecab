// Package modelfile reads what is known of a model beside its graph: the file
// model.yaml and the metadata that some exporters write into the graph.
//
// It owns the keys of model.yaml and how strict they are. It promises that a
// File has been checked: names, ranges and the number of values. It refuses
// unknown keys, and says the line. It does not look into the graph; that the
// file and the graph agree is for whoever loads both.
package modelfile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"outstation/vision/head"
)

// Name is that of a model file which serves every model in its directory.
const Name = "model.yaml"

// maxSize bounds a model file and a file of labels, in bytes.
const maxSize = 1 << 20

// File is a model file. What it does not say is the zero value.
type File struct {
	Path          string   // where it was read; "" for one that was not read from a file
	Head          string   // one of head.Forms
	Classes       []string // their names in the order of the model's outputs
	Labels        string   // file beside this one that Classes were read from; "" where they are in this one
	Width, Height int      // the model's input in pixels

	Colour    head.Colour
	Normalise *Normalise
	Letterbox head.Letterbox
	Pad       *byte

	Confidence      float64            // least confidence, in (0, 1)
	IoU             float64            // overlap above which NMS removes the weaker box, in (0, 1]
	ClassConfidence map[string]float64 // least confidence of classes that differ, in (0, 1)
}

// Normalise turns a channel's value, 0 to 255, into (value × Scale − Mean) /
// Std, in the order of the file's colour.
type Normalise struct {
	Scale     float64
	Mean, Std [3]float64
}

// Find reads the model file of a model: of the same name with the ending .yaml,
// or else model.yaml in its directory. It returns nil where neither exists.
func Find(model string) (*File, error) {
	same := strings.TrimSuffix(model, filepath.Ext(model)) + ".yaml"
	for _, path := range []string{same, filepath.Join(filepath.Dir(model), Name)} {
		f, err := Read(path)
		if !errors.Is(err, fs.ErrNotExist) {
			return f, err
		}
		if _, exists := os.Stat(path); exists == nil {
			return nil, err // a file of labels is missing, not this one
		}
	}
	return nil, nil
}

// Read reads a model file, and the file of labels that it may name.
func Read(path string) (*File, error) {
	data, err := read(path)
	if err != nil {
		return nil, err
	}
	return Parse(path, data)
}

// Parse is Read for a text that is known already. Files of labels are looked
// for in path's directory.
func Parse(path string, data []byte) (*File, error) {
	f, err := parse(path, data)
	if err != nil {
		return nil, fmt.Errorf("model file %s: %w", path, err)
	}
	return f, nil
}

func read(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("model file: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxSize+1))
	if err != nil {
		return nil, fmt.Errorf("model file: %w", err)
	}
	if len(data) > maxSize {
		return nil, fmt.Errorf("model file %s: more than %d bytes", path, maxSize)
	}
	return data, nil
}
