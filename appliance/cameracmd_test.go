//go:build !novision

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"outstation/uplink/wire"
	"outstation/vision"
	"outstation/vision/capture"
	"outstation/vision/capture/rtsptest"
	"outstation/vision/testfiles"
)

// command runs the program and returns its status and what it printed.
func command(args ...string) (code int, out, errOut string) {
	var o, e bytes.Buffer
	code = mainCode(args, &o, &e, appOptions{})
	return code, o.String(), e.String()
}

func TestCameraProbe(t *testing.T) {
	clip, err := rtsptest.Encode(rtsptest.H264, 328, 250)
	if err != nil {
		t.Fatal(err)
	}
	s, err := rtsptest.Start(rtsptest.Options{Clip: clip, User: "u", Password: "secret"})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()

	code, out, errOut := command("camera", "probe", s.URL(), "--for=1s")
	if code != 0 || strings.Contains(out+errOut, "secret") {
		t.Fatalf("status %d\n%s%s", code, out, errOut)
	}
	for _, want := range []string{"codec        H264", "size         328×250", "keyframes    every 10 frames", "decoder      ffmpeg", "transport    TCP", "first frame  after", "ms", ": ok, ", "# model: the name of one in vision.models", "in place of xxxxx"} {
		if !strings.Contains(out, want) {
			t.Errorf("missing %q in:\n%s", want, out)
		}
	}
	// What it says to configure is a configuration.
	_, cameras, found := strings.Cut(out, "below vision.cameras:\n")
	if _, err := parseConfig("probe", []byte(minimal+"vision:\n  cameras:\n"+cameras), nil); err != nil || !found {
		t.Errorf("%v in:\n%s", err, out)
	}

	file := filepath.Join(t.TempDir(), "outstation.yaml")
	if err := os.WriteFile(file, []byte(minimal+"vision:\n  cameras:\n    - {id: north, decoder: ffmpeg, source: \""+s.URL()+"\"}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	code, out, errOut = command("camera", "probe", "--config", file, "--camera", "north", "--for=1s", "--json")
	var r capture.Report
	if err := json.Unmarshal([]byte(out), &r); err != nil || code != 0 || !r.OK || r.Codec != "H264" {
		t.Errorf("status %d, %v\n%s%s", code, err, out, errOut)
	}
	code, out, errOut = command("camera", "probe", strings.Replace(s.URL(), "secret", "wrong", 1))
	if code != 1 || !strings.Contains(out, "401") || !strings.Contains(out, "check user and password") || !strings.Contains(errOut, errProbe.Error()) {
		t.Errorf("status %d\n%s%s", code, out, errOut)
	}
	for _, args := range [][]string{
		{}, {"--config", file, "--camera", "south"}, {"--config", file, s.URL()}, {"sim://line", "--decoder=ffmpeg"}, {"ftp://x"}, {"a.avi", "--decoder=nvidia"}, {s.URL(), "--for=0s"},
	} {
		if code, out, errOut := command(append([]string{"camera", "probe"}, args...)...); code != 2 {
			t.Errorf("%q: status %d, want 2\n%s%s", args, code, out, errOut)
		}
	}
}

// TestProbeOfOtherSources: what each says, and what of it a configuration takes.
func TestProbeOfOtherSources(t *testing.T) {
	video, dir := testfiles.Video().Need(t), t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a.txt"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		source string
		code   int
		says   []string
	}{
		{video, 0, []string{"codec ", "      loop: true # starts again at its end", "size "}},
		{"sim://line", 0, []string{"source: sim://line", "nothing was measured", "{name: line, path: builtin:line}"}},
		{"sim://pattern", 0, []string{"source: sim://pattern"}},
		{"sim://lin", 2, []string{`camera probe: source: sim: source "sim://lin": want sim://line?seed=1`}},
		{"sim://line?seed=x", 2, []string{`seed="x" is not a whole number from 0`}},
		{"nonsense", 1, []string{"capture: nonsense: cannot open: no such file or directory: check the path", "what to do   a source is " + sourceForms}},
		{"file:///nonsense", 1, []string{"no such file or directory: check the path"}},
		{"foo://u:secret@bar", 2, []string{"expected " + sourceForms + ", got \"foo://u:xxxxx@bar\""}},
		{dir, 1, []string{"it is a directory; the source of the pictures in it is dir://" + dir}},
	} {
		code, out, errOut := command("camera", "probe", c.source, "--for=1s")
		for _, want := range c.says {
			if !strings.Contains(out+errOut, want) {
				t.Errorf("%s: missing %q", c.source, want)
			}
		}
		if code != c.code || strings.Contains(out, sourceForms) != (c.source == "nonsense") {
			t.Errorf("%s: status %d, want %d\n%s%s", c.source, code, c.code, out, errOut)
		}
		_, cameras, found := strings.Cut(out, "below vision.cameras:\n")
		if found != (c.code == 0) {
			t.Errorf("%s: no camera, or one that cannot be used, in:\n%s", c.source, out)
		} else if found {
			cfg, err := parseConfig("probe", []byte(minimal+"vision:\n  cameras:\n"+cameras), nil)
			if err != nil || cfg.Vision.Cameras[0].Loop != (c.source == video) {
				t.Errorf("%s: %v in:\n%s", c.source, err, out)
			}
		}
	}
	code, out, errOut := command("camera", "probe", "sim://line", "--json")
	var r capture.Report
	if err := json.Unmarshal([]byte(out), &r); err != nil || code != 0 || !r.OK || r.Kind != vision.KindSim || r.Width == 0 || r.StatedFPS == 0 {
		t.Errorf("status %d, %v\n%s%s", code, err, out, errOut)
	}
}

// TestProbeOfAConfiguredCamera names what to change, and never its other keys.
func TestProbeOfAConfiguredCamera(t *testing.T) {
	video := testfiles.Video().Need(t)
	file := filepath.Join(t.TempDir(), "outstation.yaml")
	text := minimal + "vision:\n  cameras:\n    - {id: once, source: \"" + video + "\", fps: 3}\n    - {id: again, loop: true, source: \"" + video + "\"}\n" +
		"    - {id: drawn, source: \"sim://line\"}\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for id, want := range map[string]string{
		"once":  "\nIn " + file + ", of the camera once set these and leave its other keys:\n" + loopAdvice,
		"again": "\nThe camera again in " + file + " can stay as it is.\n",
		"drawn": "\nThe camera drawn in " + file + " can stay as it is.\n",
	} {
		code, out, errOut := command("camera", "probe", "--config", file, "--camera", id, "--for=1s")
		if code != 0 || !strings.HasSuffix(out, want) {
			t.Errorf("%s: status %d, want the end %q\n%s%s", id, code, want, out, errOut)
		}
	}
	slow := capture.Report{Kind: vision.KindRTSP, MeasuredFPS: 0.1}
	for _, c := range []struct {
		has     CameraConfig
		decoder string
		want    []string
	}{
		{CameraConfig{StallAfter: time.Minute}, "", nil},
		{CameraConfig{StallAfter: 20 * time.Second, Decoder: "nvidia"}, "ffmpeg", []string{"decoder: ffmpeg #", "stall_after: 50s #"}},
	} {
		got := changes(c.has, c.decoder, slow)
		if strings.Count(got, "\n") != len(c.want) {
			t.Errorf("%+v: got %q", c.has, got)
		}
		for _, want := range c.want {
			if !strings.Contains(got, want) {
				t.Errorf("%+v: missing %q in %q", c.has, want, got)
			}
		}
	}
}

// TestTheSnippetFitsASlowCamera, whose pauses are no stall.
func TestTheSnippetFitsASlowCamera(t *testing.T) {
	var list []CameraConfig
	text := snippet(CameraConfig{Source: "dir:///in?watch=1"}, capture.Report{Source: "dir:///in?watch=1", MeasuredFPS: 0.1})
	if err := yaml.Unmarshal([]byte(text), &list); err != nil || len(list) != 1 || list[0].Loop || list[0].StallAfter != 50*time.Second || strings.Contains(text, "xxxxx") {
		t.Errorf("%v, %+v in\n%s", err, list, text)
	}
	for kind, want := range map[string]time.Duration{vision.KindRTSP: 5 * time.Second, vision.KindGst: 50 * time.Second} {
		if got := stallAfter(capture.Report{Kind: kind, MeasuredFPS: 1, FirstFrameMS: 25_000}); got != want {
			t.Errorf("%s that begins after 25 s: %v, want %v", kind, got, want)
		}
	}
	if got := longerStall(10*time.Second, capture.Report{MeasuredFPS: 0.49}); got != "11s" {
		t.Errorf("0.49/s: %q, want 11s: rounded down it would be what it has", got)
	}
}

// TestWhatTheProbeOfASlowCameraSaysWorks: of a picture a second and a keyframe in
// ten, the camera that it prints comes up with its first connection.
func TestWhatTheProbeOfASlowCameraSaysWorks(t *testing.T) {
	clip, err := rtsptest.Encode(rtsptest.H264, 328, 250)
	if err != nil {
		t.Fatal(err)
	}
	s, err := rtsptest.Start(rtsptest.Options{Clip: clip, FPS: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	code, out, errOut := command("camera", "probe", s.URL(), "--for=3s")
	_, snippet, found := strings.Cut(out, "below vision.cameras:\n")
	cfg, err := parseConfig("probe", []byte(minimal+"vision:\n  cameras:\n"+snippet), nil)
	if code != 0 || !found || err != nil {
		t.Fatalf("status %d, %v\n%s%s", code, err, out, errOut)
	}
	cam := cfg.Vision.Cameras[0]
	source, err := newSource(cam, nil)
	if err != nil {
		t.Fatal(err)
	}
	for time.Since(s.Sent(0)) > 500*time.Millisecond { // the next keyframe is far then
		time.Sleep(10 * time.Millisecond)
	}
	before := s.Played()
	p, err := vision.New(vision.Options{Cameras: []vision.CameraOptions{{ID: cam.ID, Kind: vision.Kind(cam.Source), NewSource: source, StallAfter: cam.StallAfter}}})
	if err != nil {
		t.Fatal(err)
	}
	go p.Serve(t.Context()) //nolint:errcheck // Close waits for it
	defer p.Close()
	for deadline := time.Now().Add(time.Minute); p.Stats().Cameras[0].Frames < 3; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("no frames: %+v", p.Stats().Cameras[0])
		}
	}
	if n := s.Played() - before; n != 1 {
		t.Errorf("it took %d connections", n)
	}
}

// TestAReadEndsBeforeTheCameraIsGivenUp, whatever its stall_after.
func TestAReadEndsBeforeTheCameraIsGivenUp(t *testing.T) {
	for _, stall := range []time.Duration{time.Second, vision.DefaultStallAfter, 5 * time.Minute} {
		if got := captureOptions(CameraConfig{Source: "rtsp://h/s", StallAfter: stall}, nil).ReadTimeout; got >= stall || got < stall/2 {
			t.Errorf("stall_after %v: a read ends after %v", stall, got)
		}
	}
}

// TestCameraSourcesAreChecked with the place of what is wrong.
func TestCameraSourcesAreChecked(t *testing.T) {
	text := minimal + `vision:
  cameras:
    - {id: a, source: "rtsp://h/s", decoder: cuda}
    - {id: b, source: "csi://0", decoder: nvidia}
    - {id: c, source: "dir://relative"}
    - {id: d, source: "http://h/"}
    - {id: e, source: "rtsp://h/s", decoder: nvidia}
`
	_, err := parseConfig("o.yaml", []byte(text), nil)
	for _, want := range []string{
		"vision.cameras[0].decoder: expected one of [auto ffmpeg gstreamer nvidia], got", "vision.cameras[1].decoder: only an rtsp://",
		"vision.cameras[2].source: capture: source \"dir://relative\": want dir:///PATH", "vision.cameras[3].source: expected a file, rtsp://…",
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("missing %q in %v", want, err)
		}
	}
	if err != nil && strings.Contains(err.Error(), "cameras[4]") {
		t.Errorf("a good camera was refused: %v", err)
	}
}

// TestSkippedFilesAreSaid in health and on the page.
func TestSkippedFilesAreSaid(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a.txt"), []byte("no picture"), 0o600); err != nil {
		t.Fatal(err)
	}
	var s skips
	told := s.of("cam", slog.New(slog.DiscardHandler))
	told(filepath.Join(dir, "a.txt"), errors.New("neither JPEG nor PNG"))
	told(filepath.Join(dir, "b.txt"), errors.New("neither JPEG nor PNG"))
	const want = "files skipped: 2, the last: b.txt: neither JPEG nor PNG"
	if got := withSkips(wire.Check{Detail: "1.0 frames a second"}, s.all()["cam"]); got.Detail != "1.0 frames a second; "+want {
		t.Errorf("health says %q", got.Detail)
	}
	f := facts{skips: s.all()}
	f.vision.Cameras = append(f.vision.Cameras, vision.CameraStats{ID: "cam"})
	if got := webCameras([]CameraConfig{{ID: "cam"}}, f); len(got) != 1 || got[0].Reason != want {
		t.Errorf("the page says %+v, want %q", got, want)
	}
}
