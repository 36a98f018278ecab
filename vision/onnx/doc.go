// Package onnx runs detectors through ONNX Runtime.
//
// It owns the cgo of onnxruntime_go, the process' one ONNX Runtime
// environment, and the tensors of each detector, which are made once. It
// promises that a frame is written into the memory that the next run reads, and
// that Info names the execution provider of the session and why each provider
// before it in the configured order was refused; the provider is proven by a
// profile of each session's first run. It refuses to fall back to a
// provider that the configuration does not list.
//
// With the build tag novision it is empty, and nothing here needs cgo.
package onnx
