//go:build !novision

package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"outstation/vision/models"
	"outstation/vision/testfiles"
)

// adding runs outstation model add with a library, and returns what it says.
func adding(t *testing.T, dir string, args ...string) (code int, out string) {
	t.Helper()
	var b bytes.Buffer
	args = append([]string{"model", "add", "--dir", dir, "--onnxruntime", testfiles.Library().Need(t)}, args...)
	code = mainCode(args, &b, &b, appOptions{})
	return code, b.String()
}

// place writes files in a new directory and returns it.
func place(t *testing.T, files map[string][]byte) string {
	t.Helper()
	dir := t.TempDir()
	for name, b := range files {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

const heads = "../vision/onnx/testdata/heads/"

// TestOnlyAModelIsAdded, and what cannot be used as it is with a warning.
func TestOnlyAModelIsAdded(t *testing.T) {
	dir := t.TempDir()
	from := place(t, map[string][]byte{
		"notes.onnx": []byte("not a model"), "half.onnx": read(t, heads+"ssd.onnx")[:2000],
		"ssd.onnx": read(t, heads+"ssd.onnx"), "yolov8.onnx": read(t, heads+"yolov8.onnx"),
	})
	for _, bad := range []string{"notes.onnx", "half.onnx"} {
		if code, out := adding(t, dir, filepath.Join(from, bad)); code != 1 || !strings.Contains(out, "expected a model in ONNX form; nothing was added") {
			t.Errorf("%s: exit status %d: %s", bad, code, out)
		}
	}
	if list, err := models.New(models.Options{Dir: filepath.Join(dir, modelsDir)}).List(); err != nil || len(list) != 0 {
		t.Errorf("in the store: %+v, %v", list, err)
	}
	code, out := adding(t, dir, filepath.Join(from, "ssd.onnx"))
	if code != 0 || !strings.Contains(out, "warning: ssd@") || !strings.Contains(out, "cannot be used as it is") || !strings.Contains(out, "it has no model.yaml") {
		t.Errorf("exit status %d: %s", code, out)
	}
	code, out = adding(t, dir, filepath.Join(from, "yolov8.onnx")) // its metadata says all
	if code != 0 || strings.Contains(out, "warning") {
		t.Errorf("exit status %d: %s", code, out)
	}
	code, out = adding(t, dir, heads+"rtdetr.onnx") // its model.yaml says all
	if code != 0 || strings.Contains(out, "warning") {
		t.Errorf("exit status %d: %s", code, out)
	}
	var b bytes.Buffer
	args := []string{"model", "add", "--dir", t.TempDir(), "--onnxruntime", filepath.Join(from, "none.so"), filepath.Join(from, "yolov8.onnx")}
	if code := mainCode(args, &b, &b, appOptions{}); code != 0 || !strings.Contains(b.String(), "warning: nobody looked whether yolov8@") {
		t.Errorf("without a library: exit status %d: %s", code, b.String())
	}
}

// TestLabelsAreAddedWithTheirModel, so that the version still opens when the
// directory that it came from is gone.
func TestLabelsAreAddedWithTheirModel(t *testing.T) {
	onnx := read(t, heads+"yolov8.onnx")
	labels, yaml := []byte("bolt\nnut\nwasher\n"), []byte("head: yolov8\nclasses: parts.txt\n")
	for name, args := range map[string]func(from string) []string{
		"beside the file": func(from string) []string { return []string{filepath.Join(from, "press.onnx")} },
		"with --yaml": func(from string) []string {
			return []string{heads + "yolov8.onnx", "--name", "press", "--yaml", filepath.Join(from, "press.yaml")}
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			from := place(t, map[string][]byte{"press.onnx": onnx, "press.yaml": yaml, "parts.txt": labels})
			if code, out := adding(t, dir, args(from)...); code != 0 {
				t.Fatalf("exit status %d: %s", code, out)
			}
			if err := os.RemoveAll(from); err != nil {
				t.Fatal(err)
			}
			s := models.New(models.Options{Dir: filepath.Join(dir, modelsDir)})
			v, err := s.Version("press", "")
			if err != nil {
				t.Fatal(err)
			}
			d, err := describeModel(modelInspectCommand{File: filepath.Join(s.Dir("press", v.SHA256), models.ModelFile), ONNX: testfiles.Library().Need(t)})
			if err != nil || d.problem != nil || !strings.Contains(strings.Join(d.settings, "\n"), "classes: the 3 of the model file") {
				t.Errorf("got %+v, %v", d, err)
			}
		})
	}
	from := place(t, map[string][]byte{"press.onnx": onnx, "press.yaml": yaml})
	if code, out := adding(t, t.TempDir(), filepath.Join(from, "press.onnx")); code != 1 || !strings.Contains(out, "parts.txt: no such file") {
		t.Errorf("without the labels: exit status %d: %s", code, out)
	}
}

// TestAVersionWithoutTheModelFileOfTheActiveOne is not activated, with or
// without golden frames, and whoever adds it is told.
func TestAVersionWithoutTheModelFileOfTheActiveOne(t *testing.T) {
	k := keep(t, t.TempDir())
	add := func(text string, sidecar []byte) string {
		out, err := k.store.Add(t.Context(), models.Addition{Name: "press", Sidecar: sidecar, Fetch: k.store.FromBytes([]byte(text))})
		if err != nil {
			t.Fatal(err)
		}
		return out.SHA256
	}
	one, two, three := add("finds 1", []byte("confidence: 0.4\n")), add("finds 2", nil), add("finds 3", []byte{})
	if _, err := k.activate(one, false); err != nil {
		t.Fatal(err)
	}
	_, err := k.activate(two, false)
	if !errors.Is(err, errNoSidecar) || !strings.Contains(err.Error(), "--yaml "+filepath.Join(k.store.Dir("press", one), "model.yaml")) {
		t.Errorf("got %v", err)
	}
	k.serves(one)
	if _, err := k.activate(three, false); err != nil { // an empty one says that none is needed
		t.Errorf("got %v", err)
	}
	k.serves(three)
	if _, err := k.rollBack(t.Context(), "press"); err != nil {
		t.Error(err)
	}

	data := filepath.Dir(k.store.Dir("", ""))
	code, out := adding(t, data, heads+"../batch_2.onnx", "--name", "press")
	if code != 0 || !strings.Contains(out, "cannot be activated: it has no model.yaml, and the active version has one") {
		t.Errorf("exit status %d: %s", code, out)
	}
}
