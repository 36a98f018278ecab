package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"image/png"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"outstation/vision/sim"
)

// TestExportedFramesAreTheLine compares a PNG with the pixels of its index, and
// the labels with the truth.
func TestExportedFramesAreTheLine(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "out")
	c := simExportCommand{Seed: 9, Frames: 2, First: 1e10, Every: 30, Size: "320x180", Parts: 60, Defects: 1, Format: "png", Out: dir}
	if err := c.Run(&env{out: io.Discard, errOut: io.Discard, ctx: t.Context()}); err != nil {
		t.Fatal(err)
	}
	line, err := sim.NewLine(sim.LineOptions{Seed: 9, DefectRate: 1, Width: 320, Height: 180})
	if err != nil {
		t.Fatal(err)
	}
	const index = 1e10 + 30
	bgr := make([]byte, 3*320*180)
	if _, err := line.Image(index).Letterbox(bgr, 320, 180, 0); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(filepath.Join(dir, "frames", "10000000030.png"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	got, err := png.Decode(f)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(bgr); i += 3 {
		r, g, b, _ := got.At(i/3%320, i/3/320).RGBA()
		if byte(r) != bgr[i+2] || byte(g) != bgr[i+1] || byte(b) != bgr[i] {
			t.Fatalf("pixel %d is %d %d %d, want %v", i/3, byte(r), byte(g), byte(b), bgr[i:i+3])
		}
	}
	var labels sim.COCO
	text, err := os.ReadFile(filepath.Join(dir, exportLabels))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &labels); err != nil {
		t.Fatal(err)
	}
	if want := len(line.Truth(1e10).Labels()) + len(line.Truth(index).Labels()); len(labels.Annotations) != want || labels.Images[1].Index != index {
		t.Errorf("%d annotations of %+v, want %d", len(labels.Annotations), labels.Images, want)
	}
}

// TestAnInterruptedExportHasNoLabels and is replaced by the next.
func TestAnInterruptedExportHasNoLabels(t *testing.T) {
	dir := t.TempDir()
	c := simExportCommand{Frames: 2, Every: 1, Size: "64x64", Parts: 60, Format: "png", Out: dir}
	run := func(ctx context.Context) error {
		return c.Run(&env{out: io.Discard, errOut: io.Discard, ctx: ctx})
	}
	if err := run(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := run(ctx); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v, want context.Canceled", err)
	}
	if _, err := os.Stat(filepath.Join(dir, exportLabels)); err == nil {
		t.Error("the labels of the earlier export are still there")
	}
	if err := run(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(dir, exportLabels)); err != nil {
		t.Error(err)
	}
}

// TestExportWithoutVision: the build without cgo writes frames and labels, and
// says that it cannot write a video before it writes anything.
func TestExportWithoutVision(t *testing.T) {
	program := filepath.Join(t.TempDir(), "outstation-novision")
	build := exec.Command("go", "build", "-buildvcs=false", "-tags", "novision", "-o", program, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	dir := filepath.Join(t.TempDir(), "out")
	args := []string{"sim", "export", "--frames=1", "--size=64x64", "--out=" + dir}
	out, err := exec.Command(program, append(args, "--video")...).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "no --video") {
		t.Errorf("%v: %s", err, out)
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("a directory was made")
	}
	if out, err := exec.Command(program, args...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	text, err := os.ReadFile(filepath.Join(dir, exportLabels))
	if err != nil || !bytes.Contains(text, []byte(`"annotations"`)) {
		t.Errorf("%s, %v", text, err)
	}
}
