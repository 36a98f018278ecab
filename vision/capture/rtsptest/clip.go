//go:build !novision

package rtsptest

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/bluenviron/mediacommon/v2/pkg/codecs/h264"
	"gocv.io/x/gocv"
)

// The codecs of clips.
const (
	H264  = "H264"
	H265  = "H265"
	MJPEG = "MJPEG"
)

// KeyframeInterval is how many pictures of a clip of H.264 or H.265 lie from
// one keyframe to the next: all of them, since a clip is played over and over.
const KeyframeInterval = 10

// Clip is ten coded pictures. The left half of picture i is grey Grey(i), its
// right half 255-Grey(i), so that one pixel of each tells which picture it is
// and that neither side was cut.
type Clip struct {
	Codec         string
	Width, Height int
	units         [][][]byte // of a picture, its NAL units, or its JPEG alone
}

// Grey is the value of the left half of picture i.
func Grey(i int) int { return 40 + 15*(i%KeyframeInterval) }

// Encode makes a clip with OpenCV's encoders: x264, x265 or libjpeg.
func Encode(codec string, width, height int) (Clip, error) {
	c := Clip{Codec: codec, Width: width, Height: height}
	var err error
	if codec == MJPEG {
		err = c.encodeJPEG()
	} else {
		err = c.encodeVideo()
	}
	if err != nil {
		return c, fmt.Errorf("rtsptest: encoding %s of %d×%d: %w", codec, width, height, err)
	}
	return c, nil
}

// picture is picture i.
func (c *Clip) picture(i int) gocv.Mat {
	g := byte(Grey(i))
	pixels := make([]byte, 3*c.Width*c.Height)
	for n := range pixels {
		pixels[n] = g
		if n/3%c.Width >= c.Width/2 {
			pixels[n] = 255 - g
		}
	}
	m, err := gocv.NewMatFromBytes(c.Height, c.Width, gocv.MatTypeCV8UC3, pixels)
	if err != nil {
		return gocv.NewMat()
	}
	return m
}

func (c *Clip) encodeJPEG() error {
	for i := range KeyframeInterval {
		m := c.picture(i)
		buf, err := gocv.IMEncode(gocv.JPEGFileExt, m)
		m.Close()
		if err != nil {
			return err
		}
		c.units = append(c.units, [][]byte{append([]byte(nil), buf.GetBytes()...)})
		buf.Close()
	}
	return nil
}

// encodeVideo writes the pictures to a file and takes it apart.
func (c *Clip) encodeVideo() error {
	dir, err := os.MkdirTemp("", "rtsptest")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	path, fourcc := filepath.Join(dir, "clip.h264"), "avc1"
	if c.Codec == H265 {
		path, fourcc = filepath.Join(dir, "clip.hevc"), "hvc1"
	}
	w, err := gocv.VideoWriterFileWithAPI(path, gocv.VideoCaptureFFmpeg, fourcc, 25, c.Width, c.Height, true)
	if err != nil {
		return err
	}
	for i := range KeyframeInterval {
		m := c.picture(i)
		err = w.Write(m)
		m.Close()
		if err != nil {
			return err
		}
	}
	if err := w.Close(); err != nil {
		return err
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var nals h264.AnnexB
	if err := nals.Unmarshal(data); err != nil {
		return fmt.Errorf("the encoder's output of %d bytes: %w", len(data), err)
	}
	c.units = c.accessUnits(nals)
	if len(c.units) != KeyframeInterval {
		return fmt.Errorf("the encoder made %d pictures of %d NAL units, want %d", len(c.units), len(nals), KeyframeInterval)
	}
	return nil
}

// accessUnits groups NAL units by picture. The encoders write each picture as
// one or more slices, of which the first has the bit first_slice_segment set
// (H.265) or first_mb_in_slice 0 (H.264): in both, the first bit of the slice
// header.
func (c *Clip) accessUnits(nals [][]byte) (units [][][]byte) {
	var unit [][]byte
	slices := false // unit has one
	for _, nal := range nals {
		slice, first := c.slice(nal)
		if slices && (!slice || first) {
			units, unit, slices = append(units, unit), nil, false
		}
		unit = append(unit, nal)
		slices = slices || slice
	}
	if slices {
		units = append(units, unit)
	}
	return units
}

// slice says whether a NAL unit is a slice, and the first of its picture.
func (c *Clip) slice(nal []byte) (slice, first bool) {
	if c.Codec == H265 {
		slice = nal[0]>>1&0x3f < 32
		return slice, slice && nal[2]&0x80 != 0
	}
	kind := nal[0] & 0x1f
	slice = kind == 1 || kind == 5
	return slice, slice && nal[1]&0x80 != 0
}
