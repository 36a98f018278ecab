// Command feed writes an endless stream of pictures of simulated lines with
// their boxes to standard output, for the training of the line's detector.
//
// A record is: the number of boxes (uint16, little endian); for each its class
// (uint8, an index in sim.Classes) and left, top, right and bottom in pixels of
// the picture (float32); then the picture, height rows of width pixels in
// blue, green and red, letterboxed as the detector gets it.
//
// The stream follows from its seed. Its lines have seeds from 2^32 on, so that
// a smaller seed is one that the model never saw.
package main

import (
	"bufio"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"syscall"

	"outstation/vision/sim"
)

const (
	firstSeed     = 1 << 32
	framesOfALine = 48
	pad           = 114 // as the detector's preprocessing
)

func main() {
	width := flag.Int("width", 640, "width of the pictures, in pixels")
	height := flag.Int("height", 384, "height of the pictures, in pixels")
	seed := flag.Uint64("seed", 1, "of the stream")
	defects := flag.Float64("defects", 0.8, "share of parts with a defect; training wants more than a line has")
	flag.Parse()
	out := bufio.NewWriterSize(os.Stdout, 1<<20)
	err := feed(out, *width, *height, *seed, *defects)
	if !errors.Is(err, syscall.EPIPE) { // else the reader has had enough
		fmt.Fprintln(os.Stderr, "feed:", err)
		os.Exit(1)
	}
}

// feed writes lines until that fails.
func feed(out io.Writer, width, height int, seed uint64, defects float64) error {
	r := rand.New(rand.NewPCG(seed, 0))
	for n := uint64(0); ; n++ {
		o := sim.LineOptions{Seed: firstSeed + seed<<24 + n, DefectRate: defects}
		o.Width, o.Height = size(r)
		o.PartsPerMinute = []float64{30, 60, 60, 60, 120, 240}[r.IntN(6)]
		o.FPS = o.PartsPerMinute / 60 // a part moves on by one place from frame to frame
		line, err := sim.NewLine(o)
		if err != nil {
			return err
		}
		start := r.Int64N(1 << 30)
		for i := range int64(framesOfALine) {
			if err := write(out, line, start+i, width, height); err != nil {
				return err
			}
		}
	}
}

// size is that of a camera's frames: mostly the one that the difficulty is
// defined for.
func size(r *rand.Rand) (width, height int) {
	switch r.IntN(10) {
	case 0, 1:
		return 1920, 1080
	case 2:
		return 1024, 576
	}
	return 1280, 720
}

// write writes one record.
func write(out io.Writer, line *sim.Line, index int64, width, height int) error {
	pixels := make([]byte, 3*width*height)
	image := line.Image(index)
	defer image.Close()
	scale, err := image.Letterbox(pixels, width, height, pad)
	if err != nil {
		return err
	}
	labels := line.Truth(index).Labels()
	head := binary.LittleEndian.AppendUint16(nil, uint16(len(labels)))
	for _, l := range labels {
		head = append(head, class(l.Class))
		for _, v := range []float64{l.Box.X, l.Box.Y, l.Box.X + l.Box.W, l.Box.Y + l.Box.H} {
			head = binary.LittleEndian.AppendUint32(head, math.Float32bits(float32(v*scale)))
		}
	}
	if _, err := out.Write(append(head, pixels...)); err != nil {
		return fmt.Errorf("write a picture: %w", err)
	}
	return nil
}

func class(name string) byte {
	for i, c := range sim.Classes() {
		if c == name {
			return byte(i)
		}
	}
	return 255 // the training refuses it
}
