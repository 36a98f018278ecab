package models

import (
	"embed"
	"fmt"
	"io/fs"
	"net/url"

	"outstation/vision/sim"
	"outstation/vision/sim/detector"
)

// Entry is a model that the program knows by name.
type Entry struct {
	Name    string
	What    string // in a few words
	Licence string
	Address string // "" for what is part of the program
	SHA256  string // "" for what is part of the program
	Bytes   int64

	Classes    []string // nil means COCO's
	Confidence float64
	Head       string

	content []byte
	sidecar []byte // model.yaml, nil where the graph says enough
}

// Size is the length of the model in bytes.
func (e Entry) Size() int64 { return max(e.Bytes, int64(len(e.content))) }

// Catalogue lists the models that are known. Each has golden frames.
func Catalogue() []Entry {
	return []Entry{
		{
			Name: "yolox-nano", What: "everyday objects (COCO's 80 classes), 416×416", Licence: "Apache-2.0",
			Address: "https://raw.githubusercontent.com/Kazuhito00/YOLOX-ONNX-TFLite-Sample/0f785c070ce8da070aeaeef46c0da7904ff7012e/model/yolox_nano.onnx",
			SHA256:  "695e750a5d5754bb5a8d5325643b59282191a7e7a564e435a415fd3c578eab14", Bytes: 3660092, Head: "yolox",
		},
		{
			Name: "line", What: "parts and flaws of the simulated line, 640×384", Licence: "part of this program",
			Classes: sim.Classes(), Confidence: sim.Confidence, Head: "yolov8", content: detector.ONNX(), sidecar: detector.YAML(),
		},
	}
}

// Known is the entry with a name.
func Known(name string) (Entry, bool) {
	for _, e := range Catalogue() {
		if e.Name == name {
			return e, true
		}
	}
	return Entry{}, false
}

// KnownSum is the entry whose model has a SHA-256.
func KnownSum(sum string) (Entry, bool) {
	for _, e := range Catalogue() {
		if e.SHA256 == sum {
			return e, true
		}
	}
	return Entry{}, false
}

//go:embed golden/*/*
var goldenFrames embed.FS

// Golden are the golden frames of an entry.
func (e Entry) Golden() fs.FS {
	golden, err := fs.Sub(goldenFrames, "golden/"+e.Name)
	if err != nil { // a name that is no path; a test looks at each
		return nil
	}
	return golden
}

// Addition is what brings an entry into a store. d says how to fetch it, where
// that is needed; its address and hash are the entry's.
func (e Entry) Addition(s *Store, d Download) (a Addition, err error) {
	a = Addition{Name: e.Name, Source: "part of outstation", SHA256: e.SHA256, Bytes: e.Size(), Sidecar: e.sidecar,
		Golden: e.Golden(), Classes: e.Classes, Confidence: e.Confidence, Head: e.Head}
	if e.content != nil {
		a.Fetch = s.FromBytes(e.content)
		return a, nil
	}
	if d.Address, err = url.Parse(e.Address); err != nil {
		return Addition{}, fmt.Errorf("catalogue: %w", err)
	}
	d.SHA256 = e.SHA256
	a.Source, a.Fetch = Redact(d.Address), s.FromHTTPS(d)
	return a, nil
}
