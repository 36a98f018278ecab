//go:build !novision

package main

import (
	"bytes"
	"strings"
	"testing"

	"outstation/vision/testfiles"
)

// TestModelInspect: a model that can be used, and one that lacks a name.
func TestModelInspect(t *testing.T) {
	library := testfiles.Library().Need(t)
	const heads = "../vision/onnx/testdata/heads/"
	cases := map[string]struct {
		args []string
		code int
		want []string
	}{
		"recognised": {[]string{heads + "yolov8.onnx"}, 0, []string{
			"images float32 1×3×64×96", "output0 float32 1×7×126", "author = Ultralytics", "head: yolov8, recognised", "batches of 1, fixed"}},
		"another number of classes": {[]string{heads + "yolov8.onnx", "--classes", "a,b"}, 1, []string{
			"output0 float32 1×7×126", "cannot be used as it is", "3 classes, but 2 are named"}},
		"two inputs": {[]string{heads + "rtdetr-deploy.onnx"}, 0, []string{"orig_target_sizes int64 ?×2", "batches of any size"}},
		"no model":   {[]string{heads + "yolov8.yaml"}, 1, []string{"not a model that ONNX Runtime reads"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			code := mainCode(append([]string{"model", "inspect", "--onnxruntime", library}, c.args...), &out, &out, appOptions{})
			if code != c.code {
				t.Errorf("exit status %d, want %d", code, c.code)
			}
			for _, want := range c.want {
				if !strings.Contains(out.String(), want) {
					t.Errorf("it does not say %q:\n%s", want, out.String())
				}
			}
		})
	}
}
