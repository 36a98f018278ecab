package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"outstation/uplink/wire"
	"outstation/vision"
)

// coverageFile is what a run leaves of its cameras' accounts, in coverage.json
// below the data directory. It is replaced as a whole.
type coverageFile struct {
	Cameras   map[string]keptAccount `json:"cameras"`
	Intervals []*blindInterval       `json:"intervals"` // that the queue does not have all of
}

// keptAccount is one camera's account.
type keptAccount struct {
	// Until is the arrival of the last inspected frame; absent after the end of
	// a recording.
	Until    time.Time       `json:"until,omitzero"`
	Coverage vision.Coverage `json:"coverage"`
}

// resume reads what the last run left and closes every interval that it left
// open. after is each camera's blind_after, for those that are to be inspected.
func (k *blindKeeper) resume(after map[string]time.Duration) {
	now := k.now()
	k.resumed, k.off, k.wake = map[string]vision.Account{}, map[string]time.Duration{}, make(chan struct{}, 1)
	file := k.read(after)
	open := map[string]bool{}
	for _, b := range file.Intervals {
		k.gen++
		b.gen, b.offered = k.gen, b.Told
		k.all = append(k.all, b)
		if b.To.IsZero() {
			open[b.Camera] = true
			k.off[b.Camera] += max(0, now.Sub(b.From))
			k.closes(b, now)
		} else if kept := file.Cameras[b.Camera]; kept.Until.Before(b.To) && !kept.Until.IsZero() {
			kept.Until = b.To
			file.Cameras[b.Camera] = kept
		}
	}
	for camera, kept := range file.Cameras {
		account := vision.Account{Until: kept.Until, Coverage: kept.Coverage}
		if !kept.Until.IsZero() || open[camera] {
			account.Until = k.gap(camera, kept.Until, open[camera], after, now)
		}
		if _, here := after[camera]; here {
			k.resumed[camera] = account
		}
	}
	for camera := range after {
		if k.resumed[camera].Until.IsZero() { // also written now: a crash before the first inspection is blind time
			k.resumed[camera] = vision.Account{Until: now, Coverage: k.resumed[camera].Coverage}
		}
	}
	k.flush(true)
}

// gap makes an interval of the time since a camera was last inspected, unless
// that is short, and returns where its account goes on.
func (k *blindKeeper) gap(camera string, until time.Time, open bool, after map[string]time.Duration, now time.Time) time.Time {
	if open {
		return now // an interval says what was before
	}
	gap, limit := now.Sub(until), after[camera]
	if limit == 0 {
		limit = vision.DefaultBlindAfter // nobody looks through it any more
	}
	if gap >= 0 && gap <= limit {
		return now.Add(-gap) // which is measured by the monotonic clock from here
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.opens(vision.Interval{Camera: camera, From: until, Reason: vision.BlindOff})
	if b := k.open(camera); b != nil {
		k.closes(b, now)
	}
	k.off[camera] += max(0, gap)
	return now
}

// read returns the file of the last run.
func (k *blindKeeper) read(after map[string]time.Duration) coverageFile {
	b, err := os.ReadFile(k.path)
	if errors.Is(err, fs.ErrNotExist) {
		return coverageFile{}
	}
	var file coverageFile
	k.written = true
	if err == nil {
		err = json.Unmarshal(b, &file)
	}
	if err == nil {
		err = file.check()
	}
	if err != nil {
		return k.setAside(err, after)
	}
	return file
}

// setAside moves a file away that cannot be read for the given reason. All
// cameras then count as last inspected when it was written.
func (k *blindKeeper) setAside(reason error, after map[string]time.Duration) coverageFile {
	file := coverageFile{Cameras: map[string]keptAccount{}}
	if info, err := os.Stat(k.path); err == nil {
		for camera := range after {
			file.Cameras[camera] = keptAccount{Until: info.ModTime()}
		}
	}
	to := k.path + ".unreadable-" + k.now().UTC().Format("20060102T150405.000")
	k.aside = fmt.Sprintf("%s could not be read (%v) and was set aside as %s", filepath.Base(k.path), reason, filepath.Base(to))
	if err := os.Rename(k.path, to); err != nil {
		k.aside = fmt.Sprintf("%s can be neither read (%v) nor set aside: %v", filepath.Base(k.path), reason, err)
	}
	k.log.Error("what the last run left of its blind time cannot be read", "error", reason, "moved_to", to)
	return file
}

// check refuses a file that this program did not write.
func (f coverageFile) check() error {
	for i, b := range f.Intervals {
		if b == nil || b.Told < toldNothing || b.Told > toldClosing {
			return fmt.Errorf("interval %d: expected what the queue has of it, got %+v", i, b)
		}
		e := wire.Blind{
			SchemaVersion: wire.BlindV1, EventID: b.EventID, DeviceID: "d", CameraID: b.Camera, From: wire.At(b.From), Reason: string(b.Reason), Clock: b.Clock,
		}
		if !b.To.IsZero() {
			to := wire.At(b.To)
			e.To = &to
		}
		if err := e.Validate(); err != nil {
			return fmt.Errorf("interval %d: %w", i, err)
		}
	}
	return nil
}

// save makes the accounts and intervals durable.
func (k *blindKeeper) save() error {
	file := coverageFile{Cameras: map[string]keptAccount{}}
	k.mu.Lock()
	accounts := k.accounts
	k.mu.Unlock()
	now := k.resumed
	if accounts != nil {
		now = accounts() // before the intervals: they may say more than the accounts, never less
	}
	for camera, a := range now {
		file.Cameras[camera] = keptAccount{a.Until.UTC(), a.Coverage}
	}
	k.mu.Lock()
	file.Intervals = k.all
	gen, told := k.gen, k.unsaved
	k.unsaved = false
	b, err := json.Marshal(file)
	k.mu.Unlock()
	if err == nil && (k.written || len(file.Cameras)+len(file.Intervals) > 0) {
		k.written = true
		err = replaceFile(k.path, append(b, '\n'), func(*os.File) error { return nil })
	}
	if err != nil {
		err = fmt.Errorf("blind time: %w", err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if err != nil && k.saveErr == nil {
		k.log.Error("blind time is not kept", "error", err)
	}
	if k.saveErr = err; err == nil {
		k.saved = gen
	}
	k.unsaved = k.unsaved || (told && err != nil)
	return err
}

// coveragePath is where the accounts are kept.
func coveragePath(dataDir string) string { return filepath.Join(dataDir, "coverage.json") }
