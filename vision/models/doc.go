// Package models keeps detection models as things that are managed: fetched,
// checked, tried on this device, activated and rolled back.
//
// It owns a directory of versions, each named by the SHA-256 of its ONNX file,
// and for each model a small file that says which version is active and which
// was before it. It promises that a version appears whole or not at all, that
// what is active stays there until something else is, both across a crash, and
// that content is compared with its hash before it is handed out. It refuses
// to activate what failed its golden frames, and to remove what is active.
//
// It opens no model itself: detectors are handed to it. Nothing here needs cgo.
package models
