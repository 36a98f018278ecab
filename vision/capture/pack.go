//go:build !novision

package capture

import (
	"bufio"
	"bytes"
	"io"
	"slices"
	"time"

	"github.com/bluenviron/mediacommon/v2/pkg/codecs/h264"
	"github.com/bluenviron/mediacommon/v2/pkg/codecs/h265"
	"github.com/bluenviron/mediacommon/v2/pkg/formats/mpegts"
	"github.com/bluenviron/mediacommon/v2/pkg/formats/mpegts/codecs"
)

// pack writes one coded picture for a decoder; at is when it arrived, since
// the beginning.
type pack func(nals [][]byte, at time.Duration) error

// newPack packs H.264 or H.265 as a decoder of OpenCV can read it from a pipe:
// GStreamer's parsers the byte stream itself (Annex B of both standards),
// FFmpeg MPEG-TS (ISO 13818-1), since it looks at a stream without times for
// five seconds before it gives a picture.
func newPack(d Decoder, codec string, to io.Writer) (pack, error) {
	end := delimiter(codec)
	if d != DecoderFFmpeg {
		return func(nals [][]byte, _ time.Duration) error {
			b, err := h264.AnnexB(append(nals, end)).Marshal()
			if err == nil {
				_, err = to.Write(b)
			}
			return err
		}, nil
	}
	buffer := bufio.NewWriterSize(to, 64<<10)
	w, track := &mpegts.Writer{W: buffer}, &mpegts.Track{Codec: &codecs.H264{}}
	write := w.WriteH264
	if codec == codecH265 {
		track.Codec, write = &codecs.H265{}, w.WriteH265
	}
	w.Tracks = []*mpegts.Track{track}
	last := int64(-1)
	return func(nals [][]byte, at time.Duration) error {
		// In the order of decoding; the decoder knows that of showing.
		last = max(last+1, int64(at.Seconds()*90_000))
		if err := write(track, last, last, append(append([][]byte{end}, nals...), end)); err != nil {
			return err
		}
		return buffer.Flush()
	}, w.Initialize()
}

// delimiter is an access unit delimiter (section 7.3.2 of H.264 and H.265). It
// begins the next picture, so that a parser that sees it need not wait for
// that one to know that this one is complete: one picture less of latency.
func delimiter(codec string) []byte {
	if codec == codecH265 {
		return []byte{byte(h265.NALUType_AUD_NUT) << 1, 1, 0x50}
	}
	return []byte{byte(h264.NALUTypeAccessUnitDelimiter), 0xf0}
}

// keyframe says whether decoding can begin with a picture.
func (s *session) keyframe(nals [][]byte) bool {
	switch s.codec {
	case codecH264:
		return h264.IsRandomAccess(nals) || slices.ContainsFunc(nals, isRecoveryPoint)
	case codecH265:
		return h265.IsRandomAccess(nals)
	}
	return true
}

// isRecoveryPoint says whether an H.264 NAL unit is a recovery point (section
// D.2.8), which cameras send that refresh their picture bit by bit.
func isRecoveryPoint(nal []byte) bool {
	return len(nal) > 1 && h264.NALUType(nal[0]&0x1f) == h264.NALUTypeSEI && nal[1] == 6
}

// size is what the last sequence parameter set said.
type size struct {
	sps           []byte
	width, height int     // pixels
	fps           float64 // stated; 0 where it is not
}

// read looks for a sequence parameter set (section 7.3.2.1 of H.264, 7.3.2.2
// of H.265) and reports whether it changed the size.
func (s *size) read(codec string, nals [][]byte) (changed bool) {
	for _, nal := range nals {
		if !isSPS(codec, nal) || bytes.Equal(nal, s.sps) {
			continue
		}
		width, height, fps, err := parseSPS(codec, nal)
		if err != nil {
			continue // the decoder will say so
		}
		changed = changed || width != s.width || height != s.height
		*s = size{bytes.Clone(nal), width, height, fps}
	}
	return changed
}

func isSPS(codec string, nal []byte) bool {
	if len(nal) == 0 {
		return false
	}
	switch codec {
	case codecH264:
		return h264.NALUType(nal[0]&0x1f) == h264.NALUTypeSPS
	case codecH265:
		return h265.NALUType(nal[0]>>1&0x3f) == h265.NALUType_SPS_NUT
	}
	return false
}

func parseSPS(codec string, nal []byte) (width, height int, fps float64, err error) {
	if codec == codecH265 {
		var s h265.SPS
		err = s.Unmarshal(nal)
		return s.Width(), s.Height(), s.FPS(), err
	}
	var s h264.SPS
	err = s.Unmarshal(nal)
	return s.Width(), s.Height(), s.FPS(), err
}
