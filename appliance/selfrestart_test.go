package main

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"outstation/vision"
)

// stuckSource is a camera whose opening does not return until the test ends.
type stuckSource struct{ until chan struct{} }

func (s stuckSource) Open(context.Context) error  { <-s.until; return errors.New("the test ends") }
func (s stuckSource) Read() (vision.Frame, error) { return vision.Frame{}, errors.New("not open") }
func (s stuckSource) Close() error                { return nil }

// TestARestartBecauseOfCamerasIsNoFaultOfAModel: the start is taken back before
// the appliance begins to close, which it may not come to the end of, and
// once.
func TestARestartBecauseOfCamerasIsNoFaultOfAModel(t *testing.T) {
	k := keep(t, t.TempDir())
	_, two := k.twoVersions("finds 1", "finds 2")
	a := newApp(testConfig(t, t.TempDir()), slog.New(slog.DiscardHandler))
	a.models = k.modelKeeper
	until := make(chan struct{})
	defer close(until)
	var err error
	a.vision, err = vision.New(vision.Options{MaxStuck: 1, ShutdownTimeout: time.Millisecond, Cameras: []vision.CameraOptions{{
		ID: "cam", StallAfter: 10 * time.Millisecond, NewSource: func() vision.Source { return stuckSource{until} },
	}}})
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- a.vision.Serve(t.Context()) }()
	defer func() { _ = errors.Join(a.vision.Close(), <-served) }() // the reader is abandoned: that is the case
	if st, err := k.store.State("press"); err != nil || st.Current != two || st.Trial.Starts != 1 {
		t.Fatalf("got %+v, %v", st, err)
	}
	if err := a.openRestart(appOptions{restarts: time.Nanosecond}); err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	<-a.restart
	if st, err := k.store.State("press"); err != nil || st.Trial == nil || st.Trial.Starts != 0 {
		t.Errorf("got %+v, %v", st, err)
	}
	if _, _, err := k.store.Begin("press"); err != nil { // as another process would
		t.Fatal(err)
	}
	if err := k.end(); err != nil {
		t.Fatal(err)
	}
	if st, err := k.store.State("press"); err != nil || st.Trial.Starts != 1 {
		t.Errorf("it was taken back twice: %+v, %v", st.Trial, err)
	}
}
