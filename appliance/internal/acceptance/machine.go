package acceptance

import (
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Machine is what the run was on.
type Machine struct {
	Host   string `json:"host"`
	CPU    string `json:"cpu"`
	Cores  int    `json:"cores"`
	Kernel string `json:"kernel"`
	Arch   string `json:"arch"`
}

func thisMachine() Machine {
	m := Machine{CPU: cpuName(), Cores: runtime.NumCPU(), Arch: runtime.GOARCH}
	m.Host, _ = os.Hostname() // a report without it is still one
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		m.Kernel = unix.ByteSliceToString(u.Sysname[:]) + " " + unix.ByteSliceToString(u.Release[:])
	}
	return m
}

// cpuName is the processor's name where Linux tells one, or that of the board.
func cpuName() string {
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(b)) {
			name, value, _ := strings.Cut(line, ":")
			if strings.TrimSpace(name) == "model name" {
				return strings.TrimSpace(value)
			}
		}
	}
	if b, err := os.ReadFile("/proc/device-tree/model"); err == nil {
		return strings.TrimRight(string(b), "\x00\n")
	}
	return "unknown"
}

// thermalZones is where Linux shows temperatures.
const thermalZones = "/sys/class/thermal"

// Temperature is what one sensor showed, in °C.
type Temperature struct {
	Zone string  `json:"zone"`
	Min  float64 `json:"min_c"`
	Max  float64 `json:"max_c"`
}

// thermometer remembers the range of every sensor below a directory.
type thermometer struct {
	dir   string
	zones []*Temperature
}

// read looks at every sensor. One that does not answer is left out.
func (t *thermometer) read() {
	files, _ := filepath.Glob(filepath.Join(t.dir, "thermal_zone*", "temp")) // the pattern is a good one
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		milli, err := strconv.ParseFloat(strings.TrimSpace(string(b)), 64)
		if err != nil {
			continue
		}
		t.add(filepath.Dir(file), milli/1000)
	}
}

func (t *thermometer) add(dir string, degrees float64) {
	name := filepath.Base(dir)
	if kind, err := os.ReadFile(filepath.Join(dir, "type")); err == nil {
		name += " (" + strings.TrimSpace(string(kind)) + ")"
	}
	for _, z := range t.zones {
		if z.Zone == name {
			z.Min, z.Max = min(z.Min, degrees), max(z.Max, degrees)
			return
		}
	}
	t.zones = append(t.zones, &Temperature{name, degrees, degrees})
}
