package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"
)

// lastRun is what one run leaves for the next, in last-run.json below the data
// directory.
type lastRun struct {
	Version   string    `json:"version"`
	BootID    string    `json:"boot_id"` // of the machine
	StartedAt time.Time `json:"started_at"`
	StoppedAt time.Time `json:"stopped_at,omitzero"` // zero unless it was stopped in order
	Boots     quota     `json:"boots"`
}

// boot is the payload of the event that every start makes.
type boot struct {
	Version         string    `json:"version"`
	Reason          string    `json:"reason"`
	CleanStop       bool      `json:"clean_stop"` // the run before was stopped in order
	PreviousVersion string    `json:"previous_version,omitempty"`
	PreviousStart   time.Time `json:"previous_start,omitzero"`
	PreviousStop    time.Time `json:"previous_stop,omitzero"`
}

// Reasons of a boot.
const (
	bootFirst   = "first start"
	bootUpdate  = "update"       // of the program
	bootMachine = "machine boot" // the machine was off, or restarted
	bootRestart = "restart"      // of the program alone
)

func lastRunFile(dataDir string) string { return filepath.Join(dataDir, "last-run.json") }

// bootOf tells what a start is by what the run before left.
func bootOf(was *lastRun, now lastRun) boot {
	b := boot{Version: now.Version, Reason: bootFirst}
	if was == nil {
		return b
	}
	b.CleanStop, b.PreviousVersion, b.PreviousStart, b.PreviousStop = !was.StoppedAt.IsZero(), was.Version, was.StartedAt, was.StoppedAt
	switch {
	case was.Version != now.Version:
		b.Reason = bootUpdate
	case was.BootID != now.BootID:
		b.Reason = bootMachine
	default:
		b.Reason = bootRestart
	}
	return b
}

// readLastRun returns nil where there was no run, or where its file cannot be
// read, which is logged: it never keeps the appliance from starting.
func readLastRun(dataDir string, log *slog.Logger) *lastRun {
	b, err := os.ReadFile(lastRunFile(dataDir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var r lastRun
	if err == nil {
		err = json.Unmarshal(b, &r)
	}
	if err != nil {
		log.Warn("what the last run left cannot be read; this start counts as the first", "error", err)
		return nil
	}
	return &r
}

// noteStop tells the next start that this run was stopped in order.
func (a *app) noteStop() error {
	if a.run == nil {
		return nil // it did not get far
	}
	a.run.StoppedAt = time.Now().UTC()
	return a.run.write(a.cfg.DataDir)
}

// write makes the run durable.
func (r lastRun) write(dataDir string) error {
	b, err := json.Marshal(r)
	if err == nil {
		err = replaceFile(lastRunFile(dataDir), append(b, '\n'), func(*os.File) error { return nil })
	}
	if err != nil {
		return fmt.Errorf("last run: %w", err)
	}
	return nil
}

// replaceFile writes a file so that after a crash it has the old content or
// the new one. prepare may change its mode before it is there.
func replaceFile(path string, b []byte, prepare func(*os.File) error) (err error) {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, filepath.Base(path)+".new-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name()) // the error matters more
		}
	}()
	_, err = f.Write(b)
	if err = errors.Join(err, prepare(f), f.Sync(), f.Close()); err != nil {
		return err
	}
	if err = os.Rename(f.Name(), path); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
