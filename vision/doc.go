// Package vision turns frames into detection events.
//
// It owns one goroutine per camera, one per model, one that encodes pictures
// and one that hands out events. It promises that a frame is inspected as late as it arrived and
// never later than a newer one, that the detector never waits for whoever
// consumes its events, and that a camera which is not being inspected says so
// in its state. Everything between two goroutines is bounded, and what
// overflow drops is counted in Stats.
//
// It is pure Go and imports nothing else of this module: pixels and models are
// behind the Source, Image and Detector interfaces, whose implementations with
// cgo live in the subpackages capture and onnx. It refuses to know about wire
// formats, brokers and disks: an Event goes to the Sink it was given.
package vision
