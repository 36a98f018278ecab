package models

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"image"
	"image/png"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"outstation/vision/modelfile"
)

// content is a model as far as the store is concerned.
func content(n int) []byte { return bytes.Repeat([]byte{byte(n), byte(n >> 8), 7}, 1000) }

func sumOf(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

func newStore(t testing.TB) *Store { return New(Options{Dir: filepath.Join(t.TempDir(), "models")}) }

// add adds content n and returns its hash.
func add(t testing.TB, s *Store, name string, n int, change ...func(*Addition)) string {
	t.Helper()
	a := Addition{Name: name, Source: "test", Fetch: s.FromBytes(content(n))}
	for _, c := range change {
		c(&a)
	}
	out, err := s.Add(t.Context(), a)
	if err != nil {
		t.Fatal(err)
	}
	return out.SHA256
}

// somePNG is a grey picture.
func somePNG(w, h int) []byte {
	var b bytes.Buffer
	m := image.NewGray(image.Rect(0, 0, w, h))
	for i := range m.Pix {
		m.Pix[i] = byte(i)
	}
	_ = png.Encode(&b, m) // to memory
	return b.Bytes()
}

// someGolden are golden frames with one box.
func someGolden() fstest.MapFS {
	return fstest.MapFS{
		"a.png":       {Data: somePNG(64, 48)},
		"golden.json": {Data: []byte(`{"frames":[{"file":"a.png","boxes":[{"class":"part","confidence":0.9,"box":{"x":4,"y":4,"w":20,"h":20}}]}]}`)},
		"notes.txt":   {Data: []byte("not copied")},
	}
}

func TestWhatIsAddedIsThere(t *testing.T) {
	s := newStore(t)
	sum := add(t, s, "press", 1, func(a *Addition) {
		a.SHA256, a.Sidecar, a.Golden, a.Classes = sumOf(content(1)), []byte("head: yolox\n"), someGolden(), []string{"part"}
	})
	m, err := s.Check("press", sum)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range m.Files {
		names = append(names, f.Path)
	}
	if got := strings.Join(names, " "); got != "golden/a.png golden/golden.json model.onnx model.yaml" {
		t.Errorf("files: %s", got)
	}
	if m.Bytes != int64(len(content(1))) || m.Source != "test" || !m.Golden() || !m.Sidecar() || m.Gate != nil {
		t.Errorf("got %+v", m)
	}
	again, err := s.Add(t.Context(), Addition{Name: "press", Fetch: s.FromBytes(content(1)), Sidecar: []byte("head: yolox\n"), Golden: someGolden()})
	if err != nil || !again.Existed {
		t.Errorf("the same again: %+v, %v", again, err)
	}
	if _, err := s.Add(t.Context(), Addition{Name: "press", Fetch: s.FromBytes(content(1))}); !errors.Is(err, ErrExists) {
		t.Errorf("the same model without what is beside it: %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(s.dir, tempPrefix+"*")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func TestWhatCannotBeAddedLeavesNothing(t *testing.T) {
	s := newStore(t)
	s.maxBytes = 4000
	broken := someGolden()
	broken["a.png"] = &fstest.MapFile{Data: []byte("no picture")}
	for name, c := range map[string]struct {
		a    Addition
		want error
	}{
		"another hash":  {Addition{Name: "a", SHA256: sumOf(nil), Fetch: s.FromBytes(content(1))}, ErrHash},
		"empty":         {Addition{Name: "a", Fetch: s.FromBytes(nil)}, ErrHash},
		"too large":     {Addition{Name: "a", Fetch: s.FromBytes(make([]byte, 4001))}, ErrTooLarge},
		"said to be":    {Addition{Name: "a", Bytes: 4001, Fetch: s.FromBytes(content(1))}, ErrTooLarge},
		"no frames":     {Addition{Name: "a", Golden: fstest.MapFS{}, Fetch: s.FromBytes(content(1))}, fs.ErrNotExist},
		"broken frames": {Addition{Name: "a", Golden: broken, Fetch: s.FromBytes(content(1))}, image.ErrFormat},
		"no such file":  {Addition{Name: "a", Fetch: s.FromFile("/nonexistent")}, fs.ErrNotExist},
	} {
		if _, err := s.Add(t.Context(), c.a); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", name, err, c.want)
		}
	}
	for _, name := range []string{"", "../a", "A", ".new-x", strings.Repeat("a", 65)} {
		if _, err := s.Add(t.Context(), Addition{Name: name, Fetch: s.FromBytes(content(1))}); err == nil {
			t.Errorf("the name %q is taken", name)
		}
	}
	list, err := s.List()
	if err != nil || len(list) != 0 {
		t.Errorf("got %+v, %v", list, err)
	}
	if left, _ := filepath.Glob(filepath.Join(s.dir, "*")); len(left) != 1 { // the lock
		t.Errorf("left: %v", left)
	}
}

func TestAFullDiskTakesNoModel(t *testing.T) {
	s := newStore(t)
	s.minFree = 1 << 60
	_, err := s.Add(t.Context(), Addition{Name: "a", Bytes: 3000, Fetch: func(context.Context, string) error {
		t.Error("it is fetched all the same")
		return nil
	}})
	if !errors.Is(err, ErrFull) || !strings.Contains(err.Error(), fmt.Sprint(int64(1)<<60)) {
		t.Errorf("got %v", err)
	}
}

func TestOneAdditionAtATime(t *testing.T) {
	s := newStore(t)
	add(t, s, "a", 1, func(a *Addition) {
		fetch := a.Fetch
		a.Fetch = func(ctx context.Context, path string) error {
			if _, err := s.Add(ctx, Addition{Name: "b", Fetch: s.FromBytes(content(2))}); !errors.Is(err, ErrBusy) {
				t.Errorf("got %v", err)
			}
			if n, err := s.Sweep(); n != 0 || err != nil {
				t.Errorf("a sweep takes %d from under it, %v", n, err)
			}
			return fetch(ctx, path)
		}
	})
}

func TestVerifySaysWhatDiffers(t *testing.T) {
	for name, c := range map[string]struct {
		do   func(dir string) error
		want string
	}{
		"a bit":      {func(dir string) error { return flip(filepath.Join(dir, ModelFile)) }, "model.onnx has sha256"},
		"cut":        {func(dir string) error { return os.Truncate(filepath.Join(dir, ModelFile), 10) }, "model.onnx has 10 bytes, expected 3000"},
		"gone":       {func(dir string) error { return os.Remove(filepath.Join(dir, GoldenDir, "a.png")) }, "golden/a.png is missing"},
		"more":       {func(dir string) error { return os.WriteFile(filepath.Join(dir, "x"), nil, 0o600) }, "x is not in the manifest"},
		"manifest":   {func(dir string) error { return os.Truncate(filepath.Join(dir, manifestFile), 20) }, "manifest.json"},
		"no file":    {func(dir string) error { return os.Symlink("/etc/passwd", filepath.Join(dir, "y")) }, "expected a file"},
		"both agree": {replaceModel, "the manifest lists model.onnx with sha256"},
	} {
		s := newStore(t)
		sum := add(t, s, "press", 1, func(a *Addition) { a.Golden = someGolden() })
		if err := c.do(s.Dir("press", sum)); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Check("press", sum); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func flip(path string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	b[100] ^= 1
	return os.WriteFile(path, b, 0o600)
}

// replaceModel puts another model in the place of a version, and its hash into
// the list of files.
func replaceModel(dir string) error {
	m, err := readManifest(dir)
	if err != nil {
		return err
	}
	if err := flip(filepath.Join(dir, ModelFile)); err != nil {
		return err
	}
	if m.Files, err = list(dir); err != nil {
		return err
	}
	return replaceJSON(filepath.Join(dir, manifestFile), m)
}

// TestNobodySeesHalfAVersion lists the store while versions come and go.
func TestNobodySeesHalfAVersion(t *testing.T) {
	s := newStore(t)
	add(t, s, "press", 0)
	done := make(chan error, 1)
	go func() {
		for range 30 {
			out, err := s.Add(context.Background(), Addition{Name: "press", Fetch: s.FromBytes(content(1)), Golden: someGolden()})
			if err == nil {
				err = s.Remove("press", out.SHA256)
			}
			if err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	for {
		m, err := s.Model("press")
		if err != nil || len(m.Problems) > 0 {
			t.Fatalf("got %+v, %v", m, err)
		}
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
			return
		default:
		}
	}
}

func TestVersionsAreFoundByTheirBeginning(t *testing.T) {
	s := newStore(t)
	at := time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC)
	s.now = func() time.Time { at = at.Add(time.Minute); return at }
	one, two := add(t, s, "press", 1), add(t, s, "press", 2)
	for prefix, want := range map[string]string{"": two, one[:8]: one, two: two} {
		if v, err := s.Version("press", prefix); err != nil || v.SHA256 != want {
			t.Errorf("%q: got %s, %v", prefix, v.SHA256, err)
		}
	}
	if _, err := s.Version("press", "zz"); !errors.Is(err, ErrNoVersion) {
		t.Errorf("got %v", err)
	}
	if _, err := s.Version("x", ""); !errors.Is(err, ErrNoModel) {
		t.Errorf("got %v", err)
	}
}

func TestWhatIsInUseIsNotRemoved(t *testing.T) {
	s := newStore(t)
	one, two, three := add(t, s, "press", 1), add(t, s, "press", 2), add(t, s, "press", 3)
	activate(t, s, one)
	activate(t, s, two)
	for _, sha := range []string{one, two} { // the one before is what the trial goes back to
		if err := s.Remove("press", sha); !errors.Is(err, ErrActive) {
			t.Errorf("got %v", err)
		}
	}
	if err := s.Trust("press", two); err != nil {
		t.Fatal(err)
	}
	for _, sha := range []string{one, three} {
		if err := s.Remove("press", sha); err != nil {
			t.Error(err)
		}
	}
	m, err := s.Model("press")
	if err != nil || len(m.Versions) != 1 || m.State.Previous != "" || m.State.Current != two {
		t.Errorf("got %+v, %v", m, err)
	}
	if _, err := s.RollBack("press", two, "", true); !errors.Is(err, ErrNoVersion) {
		t.Errorf("a rollback to nothing: %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(s.dir, tempPrefix+"*")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// TestAVersionHasTheLabelsThatItsModelFileNames, with their hash: the directory
// that they came from may be gone.
func TestAVersionHasTheLabelsThatItsModelFileNames(t *testing.T) {
	s := newStore(t)
	labelled := func(a *Addition) {
		a.Sidecar, a.LabelsFile, a.Labels = []byte("classes: labels.txt\n"), "labels.txt", []byte("nut\nbolt\n")
	}
	sum := add(t, s, "press", 1, labelled)
	f, err := modelfile.Find(filepath.Join(s.Dir("press", sum), ModelFile))
	if err != nil || f == nil || strings.Join(f.Classes, " ") != "nut bolt" {
		t.Fatalf("got %+v, %v", f, err)
	}
	if err := os.WriteFile(filepath.Join(s.Dir("press", sum), "labels.txt"), []byte("nut\ncolt\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Check("press", sum); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "labels.txt has sha256") {
		t.Errorf("got %v", err)
	}
	for want, change := range map[string]func(*Addition){
		"labels.txt: no such file":         func(a *Addition) { a.LabelsFile = "" },
		`from the file "", got "more.txt"`: func(a *Addition) { a.Sidecar, a.LabelsFile = []byte("head: yolox\n"), "more.txt" },
		"a name of the store's own":        func(a *Addition) { a.LabelsFile = manifestFile },
		`"../labels.txt"`:                  func(a *Addition) { a.LabelsFile = "../labels.txt" },
		"unknown key":                      func(a *Addition) { a.Sidecar = []byte("classes: labels.txt\nhat: 1\n") },
	} {
		a := Addition{Name: "press", Fetch: s.FromBytes(content(2))}
		labelled(&a)
		change(&a)
		if _, err := s.Add(t.Context(), a); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	if m, err := s.Model("press"); err != nil || len(m.Versions) != 1 {
		t.Errorf("got %+v, %v", m.Versions, err)
	}
}

// TestAModelIsLookedAtBeforeItIsInTheStore, with what is beside it.
func TestAModelIsLookedAtBeforeItIsInTheStore(t *testing.T) {
	s := newStore(t)
	no := errors.New("no model")
	_, err := s.Add(t.Context(), Addition{Name: "press", Fetch: s.FromBytes(content(1)), Sidecar: []byte("head: yolox\n"), Look: func(path string) error {
		b, err := os.ReadFile(path)
		f, errFile := modelfile.Find(path)
		if err != nil || !bytes.Equal(b, content(1)) || errFile != nil || f == nil || f.Head != "yolox" {
			t.Errorf("%d bytes, %v; %+v, %v", len(b), err, f, errFile)
		}
		return no
	}})
	if !errors.Is(err, no) {
		t.Errorf("got %v", err)
	}
	if _, err := s.Model("press"); !errors.Is(err, ErrNoModel) {
		t.Errorf("got %v", err)
	}
}
