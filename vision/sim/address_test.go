package sim

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestParseLine(t *testing.T) {
	defaults := LineOptions{FPS: 15, PartsPerMinute: 60, DefectRate: 0.2, Width: 1280, Height: 720}
	for source, want := range map[string]func(*LineOptions){
		"sim://line":                                  func(*LineOptions) {},
		"sim://line/":                                 func(*LineOptions) {},
		"sim://line?seed=18446744073709551615":        func(o *LineOptions) { o.Seed = 1<<64 - 1 },
		"sim://line?fps=29.97&seed=3":                 func(o *LineOptions) { o.FPS, o.Seed = 29.97, 3 },
		"sim://line?parts_per_min=600":                func(o *LineOptions) { o.PartsPerMinute = 600 },
		"sim://line?defects=0":                        func(o *LineOptions) { o.DefectRate = 0 },
		"sim://line?defects=1":                        func(o *LineOptions) { o.DefectRate = 1 },
		"sim://line?width=1920&height=1080&frames=10": func(o *LineOptions) { o.Width, o.Height = 1920, 1080 },
	} {
		expected := defaults
		want(&expected)
		got, epoch, err := ParseLine(source)
		if err != nil || got != expected || !epoch.IsZero() {
			t.Errorf("%s: %+v, %v, %v", source, got, epoch, err)
		}
		if line, err := NewLine(got); err != nil || line.Options() != got {
			t.Errorf("%s: NewLine changes %+v: %v", source, got, err)
		}
	}
	if _, epoch, err := ParseLine("sim://line?epoch=1790000000"); err != nil || epoch.Unix() != 1790000000 {
		t.Errorf("epoch %v, %v", epoch, err)
	}
}

func TestParseLineRefuses(t *testing.T) {
	for query, want := range map[string]string{
		"?seed=-1":           `seed="-1" is not a whole number from 0`,
		"?seed=1.5":          `seed="1.5"`,
		"?fps=0":             "fps=0: want 0.1 to 1000",
		"?fps=NaN":           "fps=NaN",
		"?fps=":              "not a number",
		"?parts_per_min=0.5": "parts_per_min=0.5: want 1 to 600",
		"?parts_per_min=601": "parts_per_min=601",
		"?defects=1.1":       "defects=1.1: want 0 to 1",
		"?defects=-0.1":      "defects=-0.1",
		"?width=15":          "width=15: want 16 to 8192",
		"?height=8193":       "height=8193: want 16 to 8192",
		"?frames=-1":         "frames=-1",
		"?frames=x":          `frames="x" is not a number`,
		"?epoch=-1":          "epoch=\"-1\": want seconds since 1970",
		"?epoch=1.5":         "epoch=",
		"?epoch=2025-01-01":  "epoch=",
		"?speed=1":           `unknown parameter "speed" of sim://line, want seed`,
		"?fps=0&defects=2":   "defects=2: want 0 to 1\nfps=0",
		"?seed=%zz":          "invalid URL escape",
		"/somewhere?seed=1":  "want sim://line",
	} {
		if _, _, err := ParseLine("sim://line" + query); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want an error that says %s", query, err, want)
		}
		if _, err := Factory(Options{URL: "sim://line" + query}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Factory: %s: %v, want an error that says %s", query, err, want)
		}
	}
	for _, source := range []string{"sim://pattern", "sim://lines", "rtsp://h/", "", "::"} {
		if _, _, err := ParseLine(source); err == nil {
			t.Errorf("%q is taken for a line", source)
		}
	}
	for key, value := range map[string]string{"seed": "1", "parts_per_min": "60", "defects": "0"} {
		source := "sim://pattern?" + key + "=" + value
		if _, err := Factory(Options{URL: source}); err == nil || !strings.Contains(err.Error(), "unknown parameter") {
			t.Errorf("%s: %v", source, err)
		}
	}
}

// TestNewLineRefuses what an address cannot say.
func TestNewLineRefuses(t *testing.T) {
	if _, err := NewLine(LineOptions{DefectRate: 2, FPS: -1, Width: 1 << 20}); err == nil {
		t.Error("taken")
	} else {
		for _, want := range []string{"defects=2", "fps=-1", "width=1.048576e+06"} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%v does not say %s", err, want)
			}
		}
	}
}

// TestAnEpochSaysWhichFrameIsDue opens sources at different moments, also
// between two frames, and reads late: captured_at gives each frame's index.
func TestAnEpochSaysWhichFrameIsDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const fps = 15
		source := "sim://line?seed=4&fps=15&width=64&height=64&epoch=900000000" // synctest's clock begins at 946684800
		opts, epoch, err := ParseLine(source)
		if err != nil {
			t.Fatal(err)
		}
		line := newLine(t, opts)
		previous := int64(-1)
		for round := range 5 {
			time.Sleep(time.Duration(round) * 137 * time.Millisecond)
			opened := time.Now()
			src := open(t, Options{URL: source})
			for n := range 40 {
				f, err := src.Read()
				if err != nil {
					t.Fatal(err)
				}
				at := f.Arrived.Sub(epoch).Seconds() * fps
				index := int64(at + 0.5)
				if off := at - float64(index); off > 0.01 || off < -0.01 {
					t.Fatalf("frame %d of round %d arrives %.2f frames beside its time", n, round, off)
				}
				switch {
				case n == 0 && (f.Arrived.Before(opened) || f.Arrived.Sub(opened) > time.Second/fps):
					t.Errorf("the first frame comes at %v, opened at %v", f.Arrived, opened)
				case n > 0 && index != previous+1, index < previous:
					t.Fatalf("index %d after %d", index, previous)
				}
				dst := make([]byte, 3*64*64)
				if _, err := f.Image.Letterbox(dst, 64, 64, 114); err != nil {
					t.Fatal(err)
				}
				if want := drawn(t, line, index, 64, 64); string(dst) != string(want) {
					t.Fatalf("frame %d has other pixels than index %d", n, index)
				}
				f.Image.Close()
				previous = index
				if n == 20 {
					time.Sleep(time.Second) // a reader that is late misses nothing
				}
			}
			if late := time.Since(epoch.Add(time.Duration(previous) * time.Second / fps)); late > time.Millisecond {
				t.Errorf("round %d ends %v late", round, late)
			}
		}
	})
}

// TestAFutureEpochWaits begins with frame 0 at its time.
func TestAFutureEpochWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := open(t, Options{URL: "sim://line?width=64&height=64&epoch=946684900"})
		f, err := src.Read()
		if err != nil || f.Arrived.Unix() != 946684900 || time.Now().Before(f.Arrived) {
			t.Errorf("the first frame at %v, %v", f.Arrived, err)
		}
	})
}
