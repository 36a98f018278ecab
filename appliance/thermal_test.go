package main

import (
	"os"
	"path/filepath"
	"testing"
	"testing/fstest"
)

// zones is a file system of thermal zones, given as type and temp in turn.
func zones(values ...string) fstest.MapFS {
	m := fstest.MapFS{"cooling_device0/temp": {Data: []byte("99000\n")}}
	for i := 0; i+1 < len(values); i += 2 {
		dir := "thermal_zone" + string(rune('0'+i/2))
		m[dir+"/type"] = &fstest.MapFile{Data: []byte(values[i] + "\n")}
		if values[i+1] != "" {
			m[dir+"/temp"] = &fstest.MapFile{Data: []byte(values[i+1] + "\n")}
		}
	}
	return m
}

// TestTheHottestZoneCounts on machines that were not at hand: the names are
// those of a Jetson Nano, an Orin and a PC.
func TestTheHottestZoneCounts(t *testing.T) {
	for name, c := range map[string]struct {
		root    fstest.MapFS
		celsius float64
		sensor  string
		ok      bool
	}{
		"nano": {zones("AO-therm", "41500", "CPU-therm", "33500", "GPU-therm", "35000", "PLL-therm", "32000", "PMIC-Die", "100000", "thermal-fan-est", "34250"),
			41.5, "AO-therm", true},
		"orin, cv off": {zones("cpu-thermal", "48218", "cv0-thermal", "", "gpu-thermal", "-256000", "tj-thermal", "49312"), 49.312, "tj-thermal", true},
		"pc":           {zones("acpitz", "27800", "x86_pkg_temp", "86000"), 86, "x86_pkg_temp", true},
		"frost":        {zones("cpu", "-12000"), -12, "cpu", true},
		"nonsense":     {zones("a", "warm", "b", "999000"), 0, "", false},
		"none":         {zones(), 0, "", false},
	} {
		celsius, sensor, ok := temperature(c.root)()
		if celsius != c.celsius || sensor != c.sensor || ok != c.ok {
			t.Errorf("%s: %v °C of %q, %v; want %v °C of %q, %v", name, celsius, sensor, ok, c.celsius, c.sensor, c.ok)
		}
	}
}

// TestZonesAreLinks, as Linux has them, and may be missing altogether.
func TestZonesAreLinks(t *testing.T) {
	dir := t.TempDir()
	device, class := filepath.Join(dir, "devices", "thermal_zone0"), filepath.Join(dir, "class", "thermal")
	for _, d := range []string{device, class} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for file, text := range map[string]string{"type": "CPU-therm\n", "temp": "61500\n"} {
		if err := os.WriteFile(filepath.Join(device, file), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(device, filepath.Join(class, "thermal_zone0")); err != nil {
		t.Fatal(err)
	}
	if celsius, sensor, ok := temperature(os.DirFS(class))(); celsius != 61.5 || sensor != "CPU-therm" || !ok {
		t.Errorf("%v °C of %q, %v", celsius, sensor, ok)
	}
	if _, _, ok := temperature(os.DirFS(filepath.Join(dir, "nowhere")))(); ok {
		t.Error("there is a temperature without zones")
	}
}
