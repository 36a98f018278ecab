package vision

import (
	"bytes"
	"fmt"
	"image"
	"image/jpeg"
)

// AppendJPEG is what a JPEGer promises, for an image of w×h pixels in
// interleaved BGR rows. It is plain Go and several times slower than OpenCV:
// it is for images that are drawn, not for those of cameras.
func AppendJPEG(dst, bgr []byte, w, h int, crop image.Rectangle, maxSide, quality int) ([]byte, error) {
	if w <= 0 || h <= 0 || len(bgr) < w*h*3 {
		return dst, fmt.Errorf("vision: JPEG of %d×%d from %d bytes, want %d", w, h, len(bgr), w*h*3)
	}
	whole := image.Rect(0, 0, w, h)
	if crop.Empty() {
		crop = whole
	}
	if crop = crop.Intersect(whole); crop.Empty() {
		return dst, fmt.Errorf("vision: JPEG of a part outside of the %d×%d frame", w, h)
	}
	out := bytes.NewBuffer(dst)
	if err := jpeg.Encode(out, scaled(bgr, w, crop, maxSide), &jpeg.Options{Quality: quality}); err != nil {
		return dst, fmt.Errorf("vision: JPEG: %w", err)
	}
	return out.Bytes(), nil
}

// scaled is a part of an image; each of its pixels is the mean of those that
// it stands for.
func scaled(bgr []byte, stride int, crop image.Rectangle, maxSide int) *image.RGBA {
	w, h := ScaledSize(crop.Dx(), crop.Dy(), maxSide)
	out := image.NewRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		y0, y1 := span(y, h, crop.Dy())
		for x := range w {
			x0, x1 := span(x, w, crop.Dx())
			var b, g, r, n int
			for sy := crop.Min.Y + y0; sy < crop.Min.Y+y1; sy++ {
				row := bgr[(sy*stride+crop.Min.X+x0)*3 : (sy*stride+crop.Min.X+x1)*3]
				for ; len(row) >= 3; row = row[3:] {
					b, g, r, n = b+int(row[0]), g+int(row[1]), r+int(row[2]), n+1
				}
			}
			p := out.Pix[out.PixOffset(x, y):]
			p[0], p[1], p[2], p[3] = byte(r/n), byte(g/n), byte(b/n), 0xff
		}
	}
	return out
}

// span is the range of the from source pixels that pixel i of to stands for.
func span(i, to, from int) (first, end int) {
	first = i * from / to
	return first, max(first+1, (i+1)*from/to)
}
