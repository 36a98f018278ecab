package sim

import (
	"math"

	"outstation/vision"
)

// COCO is the truth of frames in the format of the COCO dataset (object
// detection, https://cocodataset.org/#format-data), to be written as JSON.
// One goroutine uses it at a time.
type COCO struct {
	Info        COCOInfo         `json:"info"`
	Licenses    []struct{}       `json:"licenses"`
	Images      []COCOImage      `json:"images"`
	Annotations []COCOAnnotation `json:"annotations"`
	Categories  []COCOCategory   `json:"categories"`
}

// COCOInfo says where the frames are from. It has no date: the same frames
// make the same file.
type COCOInfo struct {
	Description string `json:"description"`
	URL         string `json:"url"` // the line's address
	Version     string `json:"version"`
}

// COCOImage is one frame.
type COCOImage struct {
	ID       int    `json:"id"` // from 1
	FileName string `json:"file_name"`
	Width    int    `json:"width"`
	Height   int    `json:"height"`
	Index    int64  `json:"frame_index"` // not of COCO: the line's
}

// COCOAnnotation is one box.
type COCOAnnotation struct {
	ID           int        `json:"id"` // from 1: pycocotools takes 0 for no match
	ImageID      int        `json:"image_id"`
	CategoryID   int        `json:"category_id"`
	BBox         [4]float64 `json:"bbox"` // x, y, width and height, in pixels, to two decimals
	Area         float64    `json:"area"` // of the box
	Segmentation []struct{} `json:"segmentation"`
	IsCrowd      int        `json:"iscrowd"`
	Part         int64      `json:"part_id"`            // not of COCO
	Contrast     float64    `json:"contrast,omitempty"` // not of COCO; of a flaw
}

// COCOCategory is one class.
type COCOCategory struct {
	ID            int    `json:"id"` // from 1, in the order of Classes
	Name          string `json:"name"`
	Supercategory string `json:"supercategory"`
}

// NewCOCO returns a list without frames.
func NewCOCO(info COCOInfo) *COCO {
	c := &COCO{Info: info, Licenses: []struct{}{}, Images: []COCOImage{}, Annotations: []COCOAnnotation{}}
	for i, class := range Classes() {
		super := "defect"
		if class == ClassPart {
			super = "product"
		}
		c.Categories = append(c.Categories, COCOCategory{i + 1, class, super})
	}
	return c
}

// Add adds a frame of width×height pixels, kept in a file, and what it shows.
func (c *COCO) Add(file string, width, height int, t Truth) {
	c.Images = append(c.Images, COCOImage{len(c.Images) + 1, file, width, height, t.Index})
	for _, p := range t.Parts {
		c.annotate(ClassPart, p.Box, p.ID, 0)
		for _, d := range p.Defects {
			c.annotate(d.Class, d.Box, p.ID, d.Contrast)
		}
	}
}

// annotate adds a box of the newest frame.
func (c *COCO) annotate(class string, b vision.Box, part int64, contrast float64) {
	id := 0
	for _, k := range c.Categories {
		if k.Name == class {
			id = k.ID
		}
	}
	box := [4]float64{hundredths(b.X), hundredths(b.Y), hundredths(b.W), hundredths(b.H)}
	c.Annotations = append(c.Annotations, COCOAnnotation{
		ID: len(c.Annotations) + 1, ImageID: len(c.Images), CategoryID: id,
		BBox: box, Area: hundredths(box[2] * box[3]), Segmentation: []struct{}{},
		Part: part, Contrast: math.Round(contrast*1e4) / 1e4,
	})
}

// hundredths rounds down, so that no box grows beyond its frame.
func hundredths(v float64) float64 { return math.Floor(v*100) / 100 }
