package sim

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The kinds of scene, as an address names them.
const (
	kindLine    = "line"
	kindPattern = "pattern"
)

// address is a parsed one.
type address struct {
	kind   string
	line   LineOptions // of a pattern only rate and size count
	frames int64       // then the source ends; 0 never does
	epoch  time.Time   // of the frame with index 0; zero for that of opening
}

// ParseLine returns the line that an address of sim://line describes, and the
// time of its frame 0: the zero time if the address leaves that to the source.
func ParseLine(source string) (LineOptions, time.Time, error) {
	a, err := parse(source)
	if err == nil && a.kind != kindLine {
		err = errors.New("want sim://line?seed=1")
	}
	if err == nil {
		a.line = a.line.withDefaults()
		err = a.line.validate()
	}
	if err != nil {
		return LineOptions{}, time.Time{}, fmt.Errorf("sim: source %q: %w", source, err)
	}
	return a.line, a.epoch, nil
}

func parse(text string) (address, error) {
	u, err := url.Parse(text)
	if err != nil {
		return address{}, err
	}
	a := address{kind: u.Host, line: LineOptions{
		FPS: DefaultFPS, PartsPerMinute: DefaultPartsPerMinute, DefectRate: DefaultDefectRate, Width: DefaultWidth, Height: DefaultHeight,
	}}
	if u.Scheme != "sim" || (a.kind != kindLine && a.kind != kindPattern) || (u.Path != "" && u.Path != "/") {
		return address{}, errors.New("want sim://line?seed=1&fps=15&parts_per_min=60, or sim://pattern")
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return address{}, err
	}
	var errs []error
	for key, values := range query {
		if err := a.set(key, values[len(values)-1]); err != nil {
			errs = append(errs, err)
		}
	}
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return a, errors.Join(errs...)
}

// set applies one parameter.
func (a *address) set(key, value string) error {
	number, low, high := (*float64)(nil), 0.0, 0.0
	var whole float64
	switch key {
	case "fps":
		number, low, high = &a.line.FPS, 0.1, 1000
	case "width", "height":
		number, low, high = &whole, minSide, maxSide
	case "frames":
		number, low, high = &whole, 0, 1e9
	case "parts_per_min":
		number, low, high = &a.line.PartsPerMinute, 1, 600
	case "defects":
		number, low, high = &a.line.DefectRate, 0, 1
	case "seed":
		return a.setSeed(value)
	case "epoch":
		return a.setEpoch(value)
	}
	if number == nil || (a.kind == kindPattern && (key == "parts_per_min" || key == "defects")) {
		return a.unknown(key)
	}
	v, err := strconv.ParseFloat(value, 64)
	if err != nil {
		return fmt.Errorf("%s=%q is not a number", key, value)
	}
	if !(v >= low && v <= high) {
		return fmt.Errorf("%s=%s: want %v to %v", key, value, low, high)
	}
	*number = v
	switch key {
	case "width":
		a.line.Width = int(v)
	case "height":
		a.line.Height = int(v)
	case "frames":
		a.frames = int64(v)
	}
	return nil
}

func (a *address) setSeed(value string) (err error) {
	if a.kind == kindPattern {
		return a.unknown("seed")
	}
	if a.line.Seed, err = strconv.ParseUint(value, 10, 64); err != nil {
		return fmt.Errorf("seed=%q is not a whole number from 0", value)
	}
	return nil
}

// setEpoch takes seconds since 1970, which survive in an address as they are.
func (a *address) setEpoch(value string) error {
	seconds, err := strconv.ParseInt(value, 10, 64)
	if err != nil || seconds < 0 || seconds > 1<<33 {
		return fmt.Errorf("epoch=%q: want seconds since 1970, such as 1790000000", value)
	}
	a.epoch = time.Unix(seconds, 0)
	return nil
}

func (a *address) unknown(key string) error {
	want := "seed, fps, parts_per_min, defects, width, height, frames or epoch"
	if a.kind == kindPattern {
		want = "fps, width, height, frames or epoch"
	}
	return fmt.Errorf("unknown parameter %q of sim://%s, want %s", key, a.kind, want)
}
