//go:build !novision

package onnx

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	ort "github.com/yalue/onnxruntime_go"

	"outstation/vision"
)

// TestEveryNodeIsCounted: YOLOX-nano on the CPU, by the profile of a real run.
func TestEveryNodeIsCounted(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	nodes := newDetector(t, nil).Info().Nodes
	if len(nodes) != 1 || nodes[0].Provider != ProviderCPU || nodes[0].Nodes < 200 || len(nodes[0].Ops) != maxOps {
		t.Errorf("%+v, want the more than 200 nodes of YOLOX-nano, all on cpu", nodes)
	}
	if left, err := os.ReadDir(os.Getenv("TMPDIR")); err != nil || len(left) > 0 {
		t.Errorf("%v is left of the profile (%v)", left, err)
	}
}

// noTemp makes the system's temporary directory unusable.
func noTemp(t *testing.T) { t.Setenv("TMPDIR", filepath.Join(t.TempDir(), "absent")) }

// TestTheRecordLiesInScratch, and what a killed process left there a day ago is
// removed, but nothing younger and nothing else.
func TestTheRecordLiesInScratch(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data", "scratch")
	noTemp(t)
	old := time.Now().Add(-profileOld - time.Minute)
	for _, name := range []string{profilePrefix + "old", profilePrefix + "new", "other"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(filepath.Join(dir, name), old, old); name != profilePrefix+"new" && err != nil {
			t.Fatal(err)
		}
	}
	now := time.Now()
	if err := os.Chtimes(filepath.Join(dir, profilePrefix+"new"), now, now); err != nil {
		t.Fatal(err)
	}
	info := newDetector(t, func(o *Options) { o.Scratch = dir }).Info()
	if len(info.Nodes) != 1 || info.Unproven != "" {
		t.Errorf("%+v, unproven %q", info.Nodes, info.Unproven)
	}
	var left []string
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		left = append(left, e.Name())
	}
	if want := []string{profilePrefix + "new", "other"}; err != nil || !slices.Equal(left, want) {
		t.Errorf("%v, %v; want %v", left, err, want)
	}
}

// TestScratchThatCannotBeUsed: the system's temporary directory is next.
func TestScratchThatCannotBeUsed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if info := newDetector(t, func(o *Options) { o.Scratch = file }).Info(); len(info.Nodes) != 1 || info.Unproven != "" {
		t.Errorf("%+v, unproven %q", info.Nodes, info.Unproven)
	}
}

// TestTheCPUNeedsNoProof: nothing can fall back from it, so it serves, and says
// that the proof is missing.
func TestTheCPUNeedsNoProof(t *testing.T) {
	noTemp(t)
	d := newDetector(t, func(o *Options) { o.Scratch = filepath.Join(os.DevNull, "scratch") })
	info := d.Info()
	if len(info.Nodes) != 0 || !strings.Contains(info.Unproven, "cannot be recorded") || !strings.Contains(info.Unproven, os.DevNull) || !strings.Contains(info.Unproven, "absent") {
		t.Errorf("%+v, unproven %q", info.Nodes, info.Unproven)
	}
	if found, _, err := d.Detect(firstFrame(t)); err != nil || len(found) == 0 {
		t.Errorf("found %v, error %v", found, err)
	}
}

// TestWithoutAProofThereIsNoSession on any other provider: what cannot be shown
// is not claimed. The session itself is one on the CPU, as there is no other.
func TestWithoutAProofThereIsNoSession(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(*testing.T)
		want  string
	}{
		"no record":       {noTemp, "where the nodes run cannot be recorded"},
		"another's nodes": {func(*testing.T) {}, "cuda is not what runs it: none of the graph's"},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDetector(t, nil)
			c.spoil(t)
			b, err := unbound(d.shape, 1)
			if err != nil {
				t.Fatal(err)
			}
			defer b.close()
			ins, outs, err := b.values(1)
			if err != nil {
				t.Fatal(err)
			}
			settings, err := ort.NewSessionOptions()
			if err != nil {
				t.Fatal(err)
			}
			defer settings.Destroy()
			made, _, err := openProven(options(t), ProviderCUDA, d.shape, ins, outs, settings, 1)
			if made != nil || err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("session %v, error %v; want %q", made, err, c.want)
			}
		})
	}
}

func TestProof(t *testing.T) {
	conv, shape, add := func(p string) node { return node{op: "Conv", provider: p} },
		func(p string) node { return node{op: "Shape", provider: p} }, func(p string) node { return node{op: "Add", provider: p} }
	for name, c := range map[string]struct {
		nodes []node
		want  string // in the error
		first int
		kinds int
	}{
		"all there":             {[]node{conv("cuda"), add("cuda")}, "", 2, 1},
		"shapes on the cpu":     {[]node{shape("cpu"), conv("cuda"), add("cuda")}, "", 2, 2},
		"one engine":            {[]node{{op: "TRTKernel_graph_7", provider: "cuda"}}, "", 1, 1},
		"one convolution left":  {[]node{conv("cuda"), conv("cpu"), add("cuda")}, "1 nodes that take the time ran elsewhere, the first: Conv on cpu", 2, 2},
		"all on the cpu":        {[]node{conv("cpu"), add("cpu")}, "none of the graph's 2 nodes ran on cuda", 0, 2},
		"nothing ran":           {nil, "none of the graph's 0 nodes", 0, 1},
		"products on the cpu":   {[]node{conv("cuda"), {op: "FusedMatMul", provider: "cpu"}}, "FusedMatMul on cpu", 1, 2},
		"two foreign providers": {[]node{conv("cuda"), add("cpu"), add("openvino")}, "", 1, 3},
	} {
		t.Run(name, func(t *testing.T) {
			counts, err := prove(c.nodes, ProviderCUDA)
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %q", err, c.want)
			}
			if counts[0].Provider != ProviderCUDA || counts[0].Nodes != c.first || len(counts) != c.kinds {
				t.Errorf("%+v, want %d nodes on cuda and %d providers", counts, c.first, c.kinds)
			}
		})
	}
}

// TestReadProfile: the form that ONNX Runtime writes, with a node that ran
// twice and one that was only prepared.
func TestReadProfile(t *testing.T) {
	const raw = `[
	{"cat":"Session","pid":1,"tid":1,"dur":7,"ts":1,"ph":"X","name":"model_loading_uri","args":{}},
	{"cat":"Node","dur":3,"ts":2,"ph":"X","name":"conv1_kernel_time","args":{"op_name":"Conv","provider":"CUDAExecutionProvider","node_index":"0"}},
	{"cat":"Node","dur":3,"ts":3,"ph":"X","name":"conv1_kernel_time","args":{"op_name":"Conv","provider":"CUDAExecutionProvider","node_index":"0"}},
	{"cat":"Node","dur":3,"ts":4,"ph":"X","name":"trt_kernel_time","args":{"op_name":"TRTKernel_7","provider":"TensorrtExecutionProvider"}},
	{"cat":"Node","dur":0,"ts":5,"ph":"X","name":"shape_fence_before","args":{"op_name":"Shape"}}]`
	nodes, err := readProfile([]byte(raw))
	want := []node{{"conv1", "Conv", ProviderCUDA}, {"trt", "TRTKernel_7", ProviderTensorRT}}
	if err != nil || len(nodes) != 2 || nodes[0] != want[0] || nodes[1] != want[1] {
		t.Errorf("%+v (%v), want %+v", nodes, err, want)
	}
	if _, err := readProfile([]byte(`[{"cat":`)); err == nil {
		t.Error("half a profile was read")
	}
}

// TestPlacesInTheTable compares the places of the C functions that are called
// past the binding with the header that the binding was written for.
func TestPlacesInTheTable(t *testing.T) {
	dir, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "github.com/yalue/onnxruntime_go").Output()
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile("profile.go")
	if err != nil {
		t.Fatal(err)
	}
	table, err := os.ReadFile("testdata/signals.c")
	if err != nil {
		t.Fatal(err)
	}
	c := "#include <stddef.h>\n#include \"onnxruntime_c_api.h\"\n"
	for constant, name := range map[string]string{
		"GET_ERROR_MESSAGE": "GetErrorMessage", "ENABLE_PROFILING": "EnableProfiling", "ALLOCATOR_FREE": "AllocatorFree",
		"GET_DEFAULT_ALLOCATOR": "GetAllocatorWithDefaultOptions", "RELEASE_STATUS": "ReleaseStatus",
		"SESSION_END_PROFILING": "SessionEndProfiling", "CREATE_SESSION": "CreateSession", "CREATE_SESSION_FROM_ARRAY": "CreateSessionFromArray",
	} {
		found := regexp.MustCompile(`\b` + constant + ` = (\d+)`).FindSubmatch(append(source, table...))
		if found == nil {
			t.Fatalf("no place of %s", constant)
		}
		c += "_Static_assert(offsetof(OrtApi, " + name + ") == " + string(found[1]) + " * sizeof(void *), \"" + constant + "\");\n"
	}
	version := regexp.MustCompile(`API_VERSION = (\d+)`).FindSubmatch(source)
	entries := regexp.MustCompile(`ENTRIES = (\d+)`).FindSubmatch(table)
	c += "_Static_assert(ORT_API_VERSION == " + string(version[1]) + ", \"version\");\n"
	c += "_Static_assert(sizeof(OrtApi) == " + string(entries[1]) + " * sizeof(void *), \"entries\");\n"
	file := filepath.Join(t.TempDir(), "places.c")
	if err := os.WriteFile(file, []byte(c), 0o600); err != nil {
		t.Fatal(err)
	}
	if msg, err := exec.CommandContext(t.Context(), "cc", "-fsyntax-only", "-I", strings.TrimSpace(string(dir)), file).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, msg)
	}
}

// TestAnotherBindingIsAnError: its structs are looked into by name.
func TestAnotherBindingIsAnError(t *testing.T) {
	for _, of := range []any{&struct{ x *int }{}, &struct{ o int }{}, &struct{ o *int }{}} {
		if _, err := handle(of, "o"); err == nil || !strings.Contains(err.Error(), "not the version") {
			t.Errorf("%T: error %v", of, err)
		}
	}
}

// TestMeanwhileTheNextProviderServes: TensorRT is wanted first and takes
// minutes. Here its upgrade fails, as there is none.
func TestMeanwhileTheNextProviderServes(t *testing.T) {
	o, err := Options{
		Library: options(t).Library, ModelPath: options(t).ModelPath, ModelName: "m", Providers: []string{ProviderTensorRT, ProviderCPU},
	}.check()
	if err != nil {
		t.Fatal(err)
	}
	newDetector(t, nil) // the library is loaded
	d := maker{Options.awaitsEngine, build}.serveMeanwhile(o)
	if d == nil {
		t.Fatal("nothing serves")
	}
	defer d.Close()
	if info := d.Info(); info.Provider != ProviderCPU || len(info.Refused) != 0 || !strings.Contains(d.Pending(), "engine for tensorrt") {
		t.Errorf("%+v, pending %q", info, d.Pending())
	}
	if better, err := d.Upgrade(t.Context()); err == nil || better != nil || !strings.Contains(err.Error(), "provider tensorrt: ") {
		t.Errorf("the upgrade: %v, error %v; want that there is no TensorRT", better, err)
	}
	if o.awaitsEngine() {
		t.Error("a provider that cannot be used is waited for")
	}
	if found, _, err := d.Detect(firstFrame(t)); err != nil || len(found) == 0 {
		t.Errorf("found %v, error %v", found, err)
	}
	var _ vision.Upgrader = d
}
