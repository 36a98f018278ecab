//go:build !novision

package onnx

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"outstation/vision"
	"outstation/vision/capture"
	"outstation/vision/testfiles"
)

// options are those of the real model and library, one thread, on the CPU.
func options(t testing.TB) Options {
	return Options{
		Library:   testfiles.Library().Need(t),
		ModelPath: testfiles.Model().Need(t),
		ModelName: "yolox-nano",
		Providers: []string{ProviderCPU},
		Threads:   1,
	}
}

func newDetector(t testing.TB, change func(*Options)) *Detector {
	t.Helper()
	o := options(t)
	if change != nil {
		change(&o)
	}
	return opened(t, o)
}

// opened is a detector for the time of the test.
func opened(t testing.TB, o Options) *Detector {
	t.Helper()
	d, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// blank is a grey image of any size.
type blank struct{}

func (blank) Close() {}
func (blank) Letterbox(dst []byte, _, _ int, pad byte) (float64, error) {
	for i := range dst {
		dst[i] = pad
	}
	return 1, nil
}

// unreadable is an image whose pixels cannot be had.
type unreadable struct{ err error }

func (unreadable) Close()                                              {}
func (u unreadable) Letterbox([]byte, int, int, byte) (float64, error) { return 0, u.err }

func blankFrame() vision.Frame { return vision.Frame{Width: 416, Height: 416, Image: blank{}} }

// footage is the test video, opened.
func footage(t testing.TB) vision.Source {
	t.Helper()
	factory, err := capture.Factory(capture.Options{URL: testfiles.Video().Need(t)})
	if err != nil {
		t.Fatal(err)
	}
	src := factory()
	t.Cleanup(func() { src.Close() })
	if err := src.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	return src
}

// firstFrame is the first frame of the test video.
func firstFrame(t testing.TB) vision.Frame {
	t.Helper()
	f := read(t, footage(t))
	t.Cleanup(f.Image.Close)
	return f
}

// TestDetectIsNeverStale alternates two pictures: what is found must be what
// is in the picture given, not in the one before.
func TestDetectIsNeverStale(t *testing.T) {
	street := firstFrame(t)
	expectNeverStale(t, newDetector(t, nil), func() vision.Frame { return street })
}

func expectNeverStale(t *testing.T, d *Detector, frame func() vision.Frame) {
	t.Helper()
	var first []vision.Detection
	for i := range 4 {
		found, _, err := d.Detect(frame())
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			first = slices.Clone(found)
		}
		if len(found) == 0 || !slices.Equal(found, first) {
			t.Fatalf("round %d: found %v, want %v", i, found, first)
		}
		if found, _, err = d.Detect(blankFrame()); err != nil || len(found) != 0 {
			t.Fatalf("round %d: found %v in a grey picture (err %v), want nothing", i, found, err)
		}
	}
}

func TestDetectTimesEachStage(t *testing.T) {
	_, timing, err := newDetector(t, nil).Detect(firstFrame(t))
	if err != nil || timing.Preprocess <= 0 || timing.Run <= 0 || timing.Postprocess <= 0 {
		t.Errorf("timing %+v, err %v; want every stage to take time", timing, err)
	}
}

func TestDetectErrorConcernsOneFrame(t *testing.T) {
	d := newDetector(t, nil)
	broken := errors.New("no pixels")
	if _, _, err := d.Detect(vision.Frame{Width: 1, Height: 1, Image: unreadable{broken}}); !errors.Is(err, broken) {
		t.Errorf("got %v, want the image's own error", err)
	}
	if _, _, err := d.Detect(blankFrame()); err != nil {
		t.Errorf("the next frame: %v", err)
	}
}

func TestRefusedProvidersAreNamed(t *testing.T) {
	dir := filepath.Dir(testfiles.Library().Need(t))
	if gpu, _ := filepath.Glob(filepath.Join(dir, "libonnxruntime_providers_*.so")); len(gpu) > 0 {
		t.Skipf("skipping: the library at %s has GPU providers; set OUTSTATION_TEST_ORT to one that has none", dir)
	}
	info := newDetector(t, func(o *Options) { o.Providers = []string{ProviderTensorRT, ProviderCUDA, ProviderCPU} }).Info()
	if info.Provider != ProviderCPU || len(info.Refused) != 2 {
		t.Fatalf("got %+v, want cpu and two refusals", info)
	}
	for i, name := range []string{ProviderTensorRT, ProviderCUDA} {
		if r := info.Refused[i]; r.Provider != name || !strings.Contains(r.Reason, "libonnxruntime_providers_shared.so") {
			t.Errorf("refusal %d is %+v, want %s and the library that is missing", i, r, name)
		}
	}
	o := options(t)
	o.Providers = []string{ProviderCUDA}
	d, err := New(o)
	if err == nil {
		d.Close()
	}
	if !errors.Is(err, vision.ErrNoProvider) || !strings.Contains(err.Error(), "libonnxruntime_providers_shared.so") {
		t.Errorf("cuda alone: error %v", err)
	}
}

func TestNewErrorsSayWhatToDo(t *testing.T) {
	newDetector(t, nil) // the environment is the real library's from here on
	other := filepath.Join(t.TempDir(), "other.so")
	notModel := filepath.Join(t.TempDir(), "text.onnx")
	if err := os.WriteFile(notModel, []byte("not a model"), 0o600); err != nil {
		t.Fatal(err)
	}
	cases := map[string]struct {
		change func(*Options)
		want   []string
		is     error
	}{
		"another library": {func(o *Options) { o.Library = other }, []string{other, "already runs", "restart"}, ErrLibrary},
		"no model":        {func(o *Options) { o.ModelPath = other }, []string{other, "vision.models"}, os.ErrNotExist},
		"not a model":     {func(o *Options) { o.ModelPath = notModel }, []string{notModel, "ONNX Runtime"}, nil},
		"wrong classes":   {func(o *Options) { o.Classes = []string{"scratch"} }, []string{"3549×85", "yolox", "80 classes, but 1"}, nil},
		"bad provider":    {func(o *Options) { o.Providers = []string{"tpu"} }, []string{"tpu", "tensorrt, cuda or cpu"}, nil},
		"bad confidence":  {func(o *Options) { o.Confidence = 2 }, []string{"confidence 2"}, nil},
		"no name":         {func(o *Options) { o.ModelName = "" }, []string{"model name"}, nil},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			o := options(t)
			c.change(&o)
			_, err := New(o)
			if err == nil {
				t.Fatal("no error")
			}
			if c.is != nil && !errors.Is(err, c.is) {
				t.Errorf("%v does not wrap %v", err, c.is)
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q does not say %q", err, want)
				}
			}
		})
	}
}

func TestDetectAllocatesNothing(t *testing.T) {
	d, f := newDetector(t, nil), firstFrame(t)
	if n := testing.AllocsPerRun(20, func() { d.Detect(f) }); n != 0 {
		t.Errorf("%v allocations a frame, want 0", n)
	}
}

func BenchmarkDetect(b *testing.B) {
	d, f := newDetector(b, nil), firstFrame(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := d.Detect(f); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkPreprocess(b *testing.B) {
	d, f := newDetector(b, nil), firstFrame(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := d.bound.prepare(0, f); err != nil {
			b.Fatal(err)
		}
	}
}
