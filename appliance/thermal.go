package main

import (
	"io/fs"
	"path"
	"strconv"
	"strings"
)

// thermalRoot is where Linux shows its thermal zones: thermal_zoneN with the
// files type and temp (Documentation/driver-api/thermal/sysfs-api.rst).
const thermalRoot = "/sys/class/thermal"

// alwaysHot are zones that do not measure: a Jetson's PMIC-Die says 100 °C for
// ever.
var alwaysHot = []string{"PMIC-Die"}

// Readings outside of these, in °C, are those of a sensor that is off.
const coldest, hottest = -40, 150

// temperature returns what reads the hottest of the thermal zones below root,
// in °C, and its type. A zone that cannot be read, such as that of a part
// that is switched off, is left out; ok is false where none can be.
func temperature(root fs.FS) func() (celsius float64, sensor string, ok bool) {
	return func() (celsius float64, sensor string, ok bool) {
		entries, err := fs.ReadDir(root, ".")
		if err != nil {
			return 0, "", false
		}
		for _, e := range entries {
			if !strings.HasPrefix(e.Name(), "thermal_zone") {
				continue
			}
			if c, kind, good := zone(root, e.Name()); good && (!ok || c > celsius) {
				celsius, sensor, ok = c, kind, true
			}
		}
		return celsius, sensor, ok
	}
}

// zone reads one thermal zone.
func zone(root fs.FS, name string) (celsius float64, kind string, ok bool) {
	text, err := fs.ReadFile(root, path.Join(name, "temp"))
	if err != nil {
		return 0, "", false
	}
	milli, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return 0, "", false
	}
	if b, err := fs.ReadFile(root, path.Join(name, "type")); err == nil {
		kind = strings.TrimSpace(string(b))
	} else {
		kind = name
	}
	for _, not := range alwaysHot {
		if kind == not {
			return 0, "", false
		}
	}
	celsius = float64(milli) / 1000
	return celsius, kind, celsius > coldest && celsius < hottest
}
