package main

import (
	"time"

	"outstation/vision"
)

// ViewConfig says what of a camera the model sees, and when. What is left
// zero is vision's default.
type ViewConfig struct {
	ROI    RegionConfig `yaml:"roi"`
	Tiles  TilesConfig  `yaml:"tiles"`
	Motion MotionConfig `yaml:"motion"`

	Classify ClassifyConfig `yaml:"classify"`
}

// RegionConfig is a rectangle, in parts of the picture's width and height.
type RegionConfig struct {
	X float64 `yaml:"x"`
	Y float64 `yaml:"y"`
	W float64 `yaml:"w"`
	H float64 `yaml:"h"`
}

// TilesConfig divides what the model sees.
type TilesConfig struct {
	Columns int     `yaml:"columns"`
	Rows    int     `yaml:"rows"`
	Overlap float64 `yaml:"overlap"`
	Whole   bool    `yaml:"whole"`
}

// MotionConfig is the motion gate.
type MotionConfig struct {
	On        bool          `yaml:"on"`
	Threshold int           `yaml:"threshold"`
	Area      float64       `yaml:"area"`
	Hold      time.Duration `yaml:"hold"`
	Every     time.Duration `yaml:"every"`
}

// applyView sets the options of the pipeline's camera.
func (c ViewConfig) applyView(o *vision.CameraOptions) {
	o.Region, o.Tiles, o.Motion = vision.Region(c.ROI), vision.Tiles(c.Tiles), vision.MotionOptions(c.Motion)
	o.Classify = vision.ClassifyOptions(c.Classify)
}

// view reports each mistake at its own key.
func (c *checker) view(key string, cam CameraConfig) {
	var o vision.CameraOptions
	cam.applyView(&o)
	c.err(key+".roi", o.Region.Check())
	c.err(key+".tiles", o.Tiles.Check())
	c.err(key+".motion", o.Motion.Check())
	if cam.Motion.On && (cam.Lossless || cam.Heartbeat) {
		c.add(key+".motion", "a camera with lossless or heartbeat has every frame inspected; leave motion out")
	}
	if cam.Heartbeat && (o.Region != vision.Region{} || o.Tiles != vision.Tiles{}) {
		c.add(key+".heartbeat", "what the heartbeat's camera finds is compared with all that it shows; leave roi and tiles out")
	}
}
