//go:build !novision

package capture

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"gocv.io/x/gocv"

	"outstation/vision"
)

// decoded is what a decoder gave.
type decoded struct {
	opened, first time.Duration // since the beginning
	width, height int
	frames        int
	span          time.Duration // from the first to the last
	stated        float64
	decoder       Decoder
	codec         string
	err           error
}

// probeDecoder reads the source as a camera's reader does. A driver that does not
// return in time, or when ctx ends, is left alone, and reported.
func (r *Report) probeDecoder(ctx context.Context, t target, length time.Duration) {
	limit := max(2*t.OpenTimeout, t.startLimit()) + t.ReadTimeout + length
	began, results := time.Now(), make(chan decoded, 1)
	go func() { results <- decode(ctx, t, length) }()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case d := <-results:
		r.take(began, d)
	case <-ctx.Done():
		r.step(began, "decode it", ctx.Err())
	case <-timer.C:
		r.step(began, "decode it", &FaultError{FaultTimeout, fmt.Errorf("nothing came back from the driver in %v", limit)})
	}
}

// decode opens a source and reads it for length. The first quarter is not
// measured: a decoder gives what it has gathered at once.
func decode(ctx context.Context, t target, length time.Duration) (d decoded) {
	src := newSource(t)
	defer func() { d.err = errors.Join(d.err, src.Close()) }()
	began := time.Now()
	if d.err = src.Open(ctx); d.err != nil {
		return d
	}
	d.opened = time.Since(began)
	d.inside(src)
	var from time.Time
	for ctx.Err() == nil {
		f, err := src.Read()
		if err != nil {
			if d.width == 0 {
				d.err = err
			}
			break // the end of a recording is no error
		}
		f.Image.Close()
		if d.width == 0 {
			d.first = time.Since(began)
		}
		d.width, d.height = f.Width, f.Height
		now := time.Since(began) - d.first
		switch {
		case now < length/4:
			continue
		case from.IsZero():
			from = f.Arrived
		default:
			d.frames++
			d.span = f.Arrived.Sub(from)
		}
		if now >= length {
			break
		}
	}
	return d
}

// inside takes what an open source knows of itself.
func (d *decoded) inside(src vision.Source) {
	var s *source
	switch src := src.(type) {
	case *grabber:
		s = src.source
	case *source:
		s = src
	default:
		return
	}
	d.decoder, d.stated = s.decoder, s.video.Get(gocv.VideoCaptureFPS)
	if s.target.kind == vision.KindFile {
		d.codec = codecName(s.video.Get(gocv.VideoCaptureFOURCC))
	}
}

// codecName is the text of OpenCV's four-character code, such as "MJPG": the
// container's tag of the codec. It is empty for a code that is no text.
func codecName(code float64) string {
	if !(code >= 0 && code <= math.MaxUint32) {
		return ""
	}
	name := binary.LittleEndian.AppendUint32(nil, uint32(code))
	for _, c := range name {
		if c != 0 && (c < ' ' || c > '~') {
			return ""
		}
	}
	return strings.Trim(string(name), " \x00")
}

// take writes what a decoder gave.
func (r *Report) take(began time.Time, d decoded) {
	r.Decoder = d.decoder
	if !r.step(began, "decode it", d.err) {
		return
	}
	r.OK = d.width > 0
	r.Codec = cmp.Or(r.Codec, d.codec)
	r.Width, r.Height, r.FirstFrameMS = d.width, d.height, ms(d.first)
	if r.StatedFPS == 0 && d.stated > 0.1 && d.stated <= 1000 {
		r.StatedFPS = d.stated
	}
	if r.MeasuredFPS == 0 && d.span > 0 {
		r.MeasuredFPS = float64(d.frames) / d.span.Seconds()
	}
}

// note says what of a camera that works is worth a change.
func (r *Report) note() {
	add := func(format string, args ...any) { r.Notes = append(r.Notes, fmt.Sprintf(format, args...)) }
	network := r.Kind == vision.KindRTSP
	switch {
	case network && r.KeyframeInterval == 0:
		add("fewer than two keyframes came: after a reconnect nothing is seen until one does; set the camera's keyframe (GOP, I-frame) interval to about one second")
	case r.KeyframeSeconds > 2:
		add("keyframes are %.1f s apart: after a reconnect nothing is seen for up to that long; set the camera's keyframe (GOP, I-frame) interval to about one second", r.KeyframeSeconds)
	}
	if network && r.MeasuredFPS == 0 {
		add("fewer than two pictures came, so the camera's rate is not known: measure for longer, and set stall_after to at least five times the time between two pictures")
	}
	if network && r.Codec == codecH265 && r.Decoder == DecoderFFmpeg {
		add("H.265 is decoded on the CPU here, which costs more than H.264: use H.264 if the camera has it")
	}
	if r.StatedFPS > 0 && r.MeasuredFPS > 0 && r.MeasuredFPS < 0.8*r.StatedFPS && network {
		add("the camera states %.1f frames a second and sends %.1f: a dark scene, a weak link or another reader may be why", r.StatedFPS, r.MeasuredFPS)
	}
}
