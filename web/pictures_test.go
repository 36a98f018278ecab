package web

import (
	"strings"
	"testing"
)

// TestPageSaysWhatBecameOfPicturesAndWhatIsReduced, and nothing of either
// where there is none.
func TestPageSaysWhatBecameOfPicturesAndWhatIsReduced(t *testing.T) {
	s := line()
	s.Detectors[0].Behind, s.Heat.Hot = true, true
	page := words(t, s)
	for _, want := range []string{
		"reduced to 4.9/s: the detector is behind", "last picture 3 s ago", "2 without their picture",
		"Pictures kept here 4 100, 410 MiB of 512 MiB", "Hottest sensor 61.5 °C, tj-thermal: too hot, cameras are reduced",
		"1 camera inspected less often to spare the device", "Detector behind", "yolox-nano cannot keep up with its cameras",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page does not say %q:\n%s", want, page)
		}
	}
	link := `<a href="/api/v1/snapshots/` + s.Cameras[0].LastSnapshot + `">`
	if got := ask(t, serverOf(s), "GET", "/", ""); strings.Count(got.body, link) != 1 {
		t.Errorf("there is no link %s", link)
	}
	s = line()
	s.Cameras[0].CameraPictures, s.Cameras[0].Shedding = CameraPictures{}, Shedding{}
	s.Snapshots, s.Heat = SnapshotStore{}, Heat{}
	page = words(t, s)
	for _, not := range []string{"reduced", "icture kept", "last picture", "Hottest", "behind", "spare"} {
		if strings.Contains(page, not) {
			t.Errorf("the page says %q", not)
		}
	}
	if got := ask(t, serverOf(s), "GET", "/metrics", ""); strings.Contains(got.body, "outstation_snapshots_") || strings.Contains(got.body, "outstation_heat_") {
		t.Error("there are metrics of what is not there")
	}
}
