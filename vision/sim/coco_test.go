package sim

import (
	"encoding/json"
	"math"
	"slices"
	"testing"
)

// TestCOCOFollowsItsFormat reads the JSON as pycocotools does: by the names of
// the fields, building an index of ids.
func TestCOCOFollowsItsFormat(t *testing.T) {
	l := newLine(t, LineOptions{Seed: 6, DefectRate: 1})
	c := NewCOCO(COCOInfo{URL: "sim://line?seed=6"})
	boxes := 0
	for i := int64(0); i < 400; i += 50 {
		truth := l.Truth(i)
		boxes += len(truth.Labels())
		c.Add("frame.png", 1280, 720, truth)
	}
	text, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Images []struct {
			ID, Width, Height int
			FileName          string `json:"file_name"`
			FrameIndex        *int64 `json:"frame_index"`
		}
		Annotations []struct {
			ID           int
			ImageID      int `json:"image_id"`
			CategoryID   int `json:"category_id"`
			BBox         []float64
			Area         float64
			IsCrowd      *int
			Segmentation []any
			Part         *int64 `json:"part_id"`
			Contrast     float64
		}
		Categories []struct {
			ID   int
			Name string
		}
	}
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	var names []string
	for i, k := range got.Categories {
		if names = append(names, k.Name); k.ID != i+1 {
			t.Errorf("category %d has id %d", i, k.ID)
		}
	}
	if !slices.Equal(names, Classes()) {
		t.Errorf("categories %v", names)
	}
	images := map[int]bool{}
	for i, m := range got.Images {
		if m.ID < 1 || images[m.ID] || m.Width != 1280 || m.Height != 720 || m.FileName != "frame.png" || m.FrameIndex == nil || *m.FrameIndex != int64(i)*50 {
			t.Errorf("image %+v", m)
		}
		images[m.ID] = true
	}
	seen := map[int]bool{}
	for _, a := range got.Annotations {
		if a.ID < 1 || seen[a.ID] || !images[a.ImageID] || a.CategoryID < 1 || a.CategoryID > len(names) || a.IsCrowd == nil || *a.IsCrowd != 0 || a.Segmentation == nil || a.Part == nil {
			t.Fatalf("annotation %+v", a)
		}
		seen[a.ID] = true
		x, y, w, h := a.BBox[0], a.BBox[1], a.BBox[2], a.BBox[3]
		if len(a.BBox) != 4 || x < 0 || y < 0 || w <= 0 || h <= 0 || x+w > 1280 || y+h > 720 || math.Abs(a.Area-w*h) > 0.01 {
			t.Errorf("box %v, area %v", a.BBox, a.Area)
		}
		if part := names[a.CategoryID-1] == ClassPart; part != (a.Contrast == 0) {
			t.Errorf("annotation %+v has a contrast, or none", a)
		}
	}
	if len(got.Images) != 8 || len(got.Annotations) != boxes {
		t.Errorf("%d images and %d annotations, want 8 and %d", len(got.Images), len(got.Annotations), boxes)
	}
}
