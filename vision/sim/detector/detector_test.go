package detector

import (
	"reflect"
	"testing"

	"outstation/vision/modelfile"
)

// TestFileIsWhatIsBesideTheModel: a model that was trained anew is read as the
// one that is built in.
func TestFileIsWhatIsBesideTheModel(t *testing.T) {
	beside, err := modelfile.Find("line.onnx")
	if err != nil || beside == nil {
		t.Fatalf("got %v, %v", beside, err)
	}
	beside.Path = ""
	if got := File(); !reflect.DeepEqual(got, beside) {
		t.Errorf("got %+v, line.yaml says %+v", got, beside)
	}
}
