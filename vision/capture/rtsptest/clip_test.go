//go:build !novision

package rtsptest

import "testing"

func TestEncode(t *testing.T) {
	for _, codec := range []string{H264, H265, MJPEG} {
		c, err := Encode(codec, 328, 250)
		if err != nil {
			t.Fatal(err)
		}
		if len(c.units) != KeyframeInterval {
			t.Errorf("%s: %d pictures, want %d", codec, len(c.units), KeyframeInterval)
		}
	}
	if _, err := Encode(H264, 0, 0); err == nil {
		t.Error("a clip of no size was encoded")
	}
}
