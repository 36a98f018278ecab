package web

import (
	"encoding/json"
	"flag"
	"os"
	"reflect"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files")

// golden compares got with a file of testdata.
func golden(t *testing.T, file, got string) {
	t.Helper()
	path := "testdata/" + file
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s: got\n%s\nwant\n%s", path, got, want)
	}
}

func TestStatusIsTheSnapshot(t *testing.T) {
	got := ask(t, serverOf(line()), "GET", "/status.json", "")
	if got.code != 200 || got.header.Get("Content-Type") != "application/json" {
		t.Fatalf("got %d %s", got.code, got.header)
	}
	golden(t, "status.json", got.body)
	var back Snapshot
	if err := json.Unmarshal([]byte(got.body), &back); err != nil {
		t.Fatal(err)
	}
	want := line()
	for i := range want.Cameras {
		want.Cameras[i].LastFrameAt = want.Cameras[i].LastFrameAt.UTC()
	}
	if want = want.withLists(); !reflect.DeepEqual(back, want) {
		t.Errorf("got  %+v\nwant %+v", back, want)
	}
}

func TestStatusHasListsAndNoZeroTimes(t *testing.T) {
	s := Snapshot{Detectors: []Detector{{}}}
	got := ask(t, serverOf(s), "GET", "/status.json", "")
	for _, bad := range []string{"null", "0001-01-01"} {
		if strings.Contains(got.body, bad) {
			t.Errorf("the status of an empty snapshot has %s:\n%s", bad, got.body)
		}
	}
	if s.Detectors[0].Refused != nil {
		t.Error("the producer's snapshot was changed")
	}
}
