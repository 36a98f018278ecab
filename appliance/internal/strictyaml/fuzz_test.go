package strictyaml_test

import (
	"errors"
	"testing"

	"outstation/appliance/internal/strictyaml"
)

// FuzzDecode holds that no text and no environment makes Decode panic, and that it says of each problem where it is.
func FuzzDecode(f *testing.F) {
	f.Add("web: {listen: x}\nvision: {cameras: [{id: a, zones: [[1]]}]}\n", "WEB_TIMEOUT", "5s")
	f.Add("a: &a {<<: *a}\nfree: *a\n---\n", "VISION_CAMERAS_0", "{id: [}")
	f.Add("sites: {a: &x {listen: b}, c: *x}\noptional: *x\n", "SITES_A_LISTEN", "")
	f.Add("? {}\n: !!binary x\n!!int \"a\": !!float b\nsmall: !!int x\n", "UPLINK_BROKERS_0", "- a")
	f.Add("labels: {<<: [{a: b}, {a: c}]}\naddress: 1\nlevel: high\nnode: ~", "LABELS_", "\xff")
	f.Fuzz(func(t *testing.T, text, name, value string) {
		c := defaults()
		environ := []string{"OUTSTATION_" + name + "=" + value}
		src, err := strictyaml.Decode("o.yaml", []byte(text), environ, "OUTSTATION_", &c)
		if src == nil {
			t.Fatalf("got no source, error %v", err)
		}
		if err == nil {
			return
		}
		var problems *strictyaml.Error
		if !errors.As(err, &problems) || len(problems.Problems) == 0 {
			t.Fatalf("got %T %v, want problems", err, err)
		}
		for _, p := range problems.Problems {
			if p.File == "" || p.Message == "" {
				t.Errorf("got %+v, want a file and a message", p)
			}
			src.Problem(p.Key, p.Message)
		}
	})
}
