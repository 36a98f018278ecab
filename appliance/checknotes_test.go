package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"outstation/uplink"
	"outstation/vision/sim"
	"outstation/vision/testfiles"
)

// TestNotesOfClassesThatAFileTells has the classes in a model.yaml, in labels
// beside it, in the configuration (where the checker speaks) and nowhere.
func TestNotesOfClassesThatAFileTells(t *testing.T) {
	for name, c := range map[string]struct {
		files   map[string]string
		classes []string
		says    bool
	}{
		"model.yaml":        {files: map[string]string{"model.yaml": "classes: [cat, dog]\n"}, says: true},
		"labels":            {files: map[string]string{"m.yaml": "classes: l.txt\n", "l.txt": "cat\ndog\n"}, says: true},
		"only in the graph": {files: map[string]string{"model.yaml": "head: yolox\n"}},
		"nothing beside it": {},
		"the configuration": {files: map[string]string{"model.yaml": "classes: [cat, dog]\n"}, classes: []string{"cow"}},
	} {
		dir := t.TempDir()
		cfg := testConfig(t, dir)
		cfg.Vision.Models = []ModelConfig{{Name: "m", Path: filepath.Join(dir, "m.onnx"), Classes: c.classes}}
		cfg.Vision.Cameras = []CameraConfig{{ID: "a", Model: "m", JudgeConfig: JudgeConfig{Only: []string{"dog", "dgo"}}}}
		for file, text := range c.files {
			if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(cfg.Vision.Models[0].Path, []byte("no model"), 0o600); err != nil {
			t.Fatal(err)
		}
		want := []string{}
		if c.says {
			want = append(want, `warning: vision.cameras[0].only[1]: model m has no class "dgo", only cat, dog; nothing of that name is ever found`)
		}
		if got := cfg.notKnown(); !slices.Equal(got, want) {
			t.Errorf("%s: got %q, expected %q", name, got, want)
		}
	}
}

// TestNotesOfClassesThatTheCatalogueTells recognises a model by its hash.
func TestNotesOfClassesThatTheCatalogueTells(t *testing.T) {
	cfg := testConfig(t, t.TempDir())
	cfg.Vision.Models = []ModelConfig{{Name: "m", Path: testfiles.Model().Need(t)}}
	if got := cfg.fileClasses(cfg.Vision.Models[0]); len(got) != 80 || got[0] != "person" {
		t.Errorf("got %q, expected COCO's", got)
	}
	if slices.Contains(sim.Classes(), "person") {
		t.Error("the test tells nothing")
	}
}

func TestPageOfARemote(t *testing.T) {
	file := filepath.Join(t.TempDir(), "a.yaml")
	cfg := testConfig(t, t.TempDir(), "tcp://127.0.0.1:1")
	cfg.Web.Listen = "0.0.0.0:8123"
	writeConfig(t, file, cfg)
	for _, c := range []struct {
		remote
		want string
	}{
		{remote{}, defaultPage}, {remote{Config: file}, "localhost:8123"}, {remote{Web: "box:1", Config: file}, "box:1"},
	} {
		if got, err := c.page(); got != c.want || err != nil {
			t.Errorf("%+v: got %q (%v)", c, got, err)
		}
	}
	if _, err := (remote{Config: file + ".none"}).page(); err == nil {
		t.Error("a configuration that is not there is no error")
	}
}

func TestALinkThatIsTakenOverIsNotHealthy(t *testing.T) {
	f := facts{link: uplink.LinkStats{State: uplink.LinkConnected, Broker: "tcp://centre", SoonClosed: 3}}
	if c := linkCheck(f); c.State == "healthy" || !strings.Contains(c.Detail, "another client may use the same client id") {
		t.Errorf("got %+v", c)
	}
	f.link.SoonClosed = 0
	if c := linkCheck(f); c.State != "healthy" {
		t.Errorf("got %+v", c)
	}
}
