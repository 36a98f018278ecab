// Package capture reads cameras and recordings through OpenCV's videoio, and
// directories of pictures. RTSP it speaks itself; OpenCV decodes.
//
// It owns the cgo of gocv and every Mat that it makes: pixels stay in pooled
// Mats and are freed when the last frame of a closed source is closed. It
// promises never to close a capture during a read, to stamp a frame when its
// read returned, and to say in an error what was tried and what to do. It
// refuses to reconnect: that is the Pipeline's business, with a new Source.
//
// With the build tag novision only the words of a probe are left, and nothing
// here needs cgo.
package capture
