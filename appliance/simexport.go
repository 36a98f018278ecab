package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/jpeg"
	"image/png"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"outstation/vision/sim"
)

type simExportCommand struct {
	Seed    uint64  `default:"1" help:"Seed of the line."`
	Frames  int     `default:"100" help:"How many frames."`
	First   int64   `default:"0" help:"Index of the first frame."`
	Every   int64   `default:"1" help:"Take every Nth frame."`
	Size    string  `default:"1280x720" help:"Size of the frames, in pixels."`
	Parts   float64 `name:"parts-per-min" default:"60" help:"Speed of the line."`
	Defects float64 `default:"0.2" help:"Share of the parts with a defect."`
	Format  string  `enum:"png,jpeg" default:"png" help:"How frames are written: png, which keeps every pixel, or jpeg."`
	Video   bool    `help:"Write line.avi too (Motion JPEG, 15 frames a second)."`
	Out     string  `required:"" type:"path" placeholder:"DIR" help:"Where to write; a directory that is empty, or holds an earlier export, which is replaced."`
	Force   bool    `help:"Write to DIR although it holds something else; that stays, but for files of the same names."`

	address string // of the line
}

// What an export consists of.
const (
	exportMark   = ".outstation-sim-export" // makes the directory one of ours
	exportLabels = "labels.json"            // written last: an export without it is not complete
	exportFrames = "frames"
	exportVideo  = "line.avi"
)

const (
	jpegQuality   = 95
	progressEvery = 5 * time.Second
)

// Run draws and writes.
func (c *simExportCommand) Run(e *env) error {
	line, err := c.line()
	if err == nil && c.Video {
		err = errNoVideo
	}
	if err != nil {
		return usageError{fmt.Errorf("sim export: %w", err)}
	}
	if err := c.prepare(); err != nil {
		return fmt.Errorf("sim export: %w", err)
	}
	labels, err := c.export(e, line)
	if err != nil {
		return fmt.Errorf("sim export: %s is not complete: %w", c.Out, err)
	}
	fmt.Fprintf(e.out, "%s: %d frames, %d boxes\n", c.Out, len(labels.Images), len(labels.Annotations))
	return nil
}

// line checks the flags, by the rules of an address.
func (c *simExportCommand) line() (*sim.Line, error) {
	if c.Frames < 1 || c.Every < 1 || c.First < 0 {
		return nil, fmt.Errorf("got %d frames, every %d, from %d; expected at least 1, 1 and 0", c.Frames, c.Every, c.First)
	}
	width, height, ok := strings.Cut(c.Size, "x")
	if !ok {
		return nil, fmt.Errorf("--size: got %q, expected such as 1280x720", c.Size)
	}
	address := fmt.Sprintf("sim://line?seed=%d&fps=%d&parts_per_min=%v&defects=%v&width=%s&height=%s",
		c.Seed, sim.DefaultFPS, c.Parts, c.Defects, url.QueryEscape(width), url.QueryEscape(height))
	opts, _, err := sim.ParseLine(address)
	if err != nil {
		return nil, err
	}
	c.address = address
	return sim.NewLine(opts)
}

// prepare makes the directory one with the mark and nothing of an earlier
// export.
func (c *simExportCommand) prepare() error {
	if err := os.MkdirAll(c.Out, 0o755); err != nil {
		return err
	}
	list, err := os.ReadDir(c.Out)
	if err != nil {
		return err
	}
	mark := filepath.Join(c.Out, exportMark)
	switch _, err := os.Stat(mark); {
	case err == nil:
		if err := c.clean(); err != nil {
			return err
		}
	case !errors.Is(err, fs.ErrNotExist):
		return err
	case len(list) > 0 && !c.Force:
		return usageError{fmt.Errorf("%s is not empty and not an earlier export; choose another directory, or --force to write there all the same", c.Out)}
	}
	if err := os.WriteFile(mark, []byte("outstation sim export may replace what it wrote here\n"), 0o644); err != nil {
		return err
	}
	return os.MkdirAll(filepath.Join(c.Out, exportFrames), 0o755)
}

// frameName is how files of an export's frames are called.
var frameName = regexp.MustCompile(`^[0-9]{8,}\.(png|jpg)$`)

// clean removes an earlier export, its labels first.
func (c *simExportCommand) clean() error {
	names := []string{exportLabels, exportVideo}
	frames, err := os.ReadDir(filepath.Join(c.Out, exportFrames))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, f := range frames {
		if frameName.MatchString(f.Name()) {
			names = append(names, filepath.Join(exportFrames, f.Name()))
		}
	}
	for _, name := range names {
		if err := os.Remove(filepath.Join(c.Out, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// export writes the frames and the video, and then the labels, which make it
// complete.
func (c *simExportCommand) export(e *env, line *sim.Line) (*sim.COCO, error) {
	o := line.Options()
	labels := sim.NewCOCO(sim.COCOInfo{Description: "frames of outstation's simulated line with their truth", URL: c.address, Version: version})
	add := func([]byte) error { return nil }
	closeVideo := func() error { return nil }
	if c.Video {
		video, err := createVideo(filepath.Join(c.Out, exportVideo), o.FPS, o.Width, o.Height)
		if err != nil {
			return nil, err
		}
		add, closeVideo = video.Write, video.Close
	}
	err := c.frames(e, line, func(name string, index int64, bgr []byte) error {
		labels.Add(name, o.Width, o.Height, line.Truth(index))
		return add(bgr)
	})
	if err = errors.Join(err, closeVideo()); err != nil {
		return nil, err
	}
	partial := filepath.Join(c.Out, exportLabels+".partial")
	if err := writeFile(partial, func(w io.Writer) error { return json.NewEncoder(w).Encode(labels) }); err != nil {
		return nil, err
	}
	return labels, os.Rename(partial, filepath.Join(c.Out, exportLabels))
}

// frames draws and writes each, and then calls wrote with its name below the
// directory.
func (c *simExportCommand) frames(e *env, line *sim.Line, wrote func(name string, index int64, bgr []byte) error) error {
	o := line.Options()
	bgr, told := make([]byte, 3*o.Width*o.Height), time.Now()
	for i := range c.Frames {
		if err := e.ctx.Err(); err != nil {
			return err
		}
		index := c.First + int64(i)*c.Every
		m := line.Image(index)
		_, err := m.Letterbox(bgr, o.Width, o.Height, 0)
		m.Close()
		if err != nil {
			return err
		}
		name := fmt.Sprintf("%s/%08d.%s", exportFrames, index, map[string]string{"png": "png", "jpeg": "jpg"}[c.Format])
		if err := c.write(filepath.Join(c.Out, name), bgr, o); err != nil {
			return err
		}
		if err := wrote(name, index, bgr); err != nil {
			return err
		}
		if time.Since(told) >= progressEvery || i == c.Frames-1 {
			fmt.Fprintf(e.errOut, "outstation: %d of %d frames\n", i+1, c.Frames)
			told = time.Now()
		}
	}
	return nil
}

// write writes a frame as a picture.
func (c *simExportCommand) write(path string, bgr []byte, o sim.LineOptions) error {
	m := image.NewRGBA(image.Rect(0, 0, o.Width, o.Height))
	for i, at := 0, 0; i < len(bgr); i, at = i+3, at+4 {
		m.Pix[at], m.Pix[at+1], m.Pix[at+2], m.Pix[at+3] = bgr[i+2], bgr[i+1], bgr[i], 255
	}
	if c.Format == "jpeg" {
		return writeFile(path, func(w io.Writer) error { return jpeg.Encode(w, m, &jpeg.Options{Quality: jpegQuality}) })
	}
	encoder := png.Encoder{CompressionLevel: png.BestSpeed}
	return writeFile(path, func(w io.Writer) error { return encoder.Encode(w, m) })
}

// writeFile creates a file, or replaces it.
func writeFile(path string, write func(io.Writer) error) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	w := bufio.NewWriter(f)
	if err := errors.Join(write(w), w.Flush(), f.Close()); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}
