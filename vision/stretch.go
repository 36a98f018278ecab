package vision

// Stretcher is implemented by images that can also be scaled without keeping
// their aspect ratio, which some models were trained with.
type Stretcher interface {
	// Stretch scales the image to width×height and writes it to dst as
	// interleaved BGR rows (len(dst) ≥ width*height*3).
	Stretch(dst []byte, width, height int) error
}
