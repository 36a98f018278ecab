package testfiles

import (
	"os"
	"path/filepath"
	"testing"
)

func TestTheVariableWins(t *testing.T) {
	path := filepath.Join(t.TempDir(), "model")
	f := Model()
	t.Setenv(f.Variable, path)
	if got, ok := f.Find(); ok || got != path {
		t.Errorf("an absent file: %s, %v", got, ok)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got, ok := f.Find(); !ok || got != path {
		t.Errorf("a file: %s, %v", got, ok)
	}
	t.Setenv(f.Variable, "")
	if got, _ := f.Find(); filepath.Base(filepath.Dir(filepath.Dir(got))) == "testfiles" || filepath.Base(got) != "yolox_nano.onnx" {
		t.Errorf("without the variable: %s, want it below the repository's root", got)
	}
}
