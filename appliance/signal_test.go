package main

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"outstation/uplink/mosquittotest"
	"outstation/web"
)

// frozen starts an appliance whose centre then stops answering, so that a
// clean stop has to wait for it.
func frozen(t *testing.T) (*process, *mosquittotest.Server) {
	t.Helper()
	centre := startMosquitto(t)
	seen := consume(t, centre.URL(), "appliance/#")
	p := start(t, testConfig(t, t.TempDir(), centre.URL()), nil, binary(t))
	p.until("the link", func(s web.Snapshot) bool { return s.Uplink.State == web.UplinkConnected })
	p.eventually("the presence", func() bool { return seen.last("/status") != nil })
	if err := centre.Freeze(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := centre.Thaw(); err != nil {
			t.Error(err)
		}
	})
	return p, centre
}

func TestStopDoesNotWaitForACentreThatSaysNothing(t *testing.T) {
	p, _ := frozen(t)
	began := time.Now()
	if code := p.stop(); code != 0 {
		t.Errorf("exit status %d:\n%s", code, p.out.String())
	}
	if took := time.Since(began); took > shutdownTimeout {
		t.Errorf("the stop took %v, expected at most %v", took, shutdownTimeout)
	}
}

func TestSecondSignalEndsAtOnce(t *testing.T) {
	p, _ := frozen(t)
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	p.eventually("the stop to begin", func() bool { _, err := p.status(); return err != nil })
	if code := p.stop(); code != 1 {
		t.Errorf("exit status %d, expected 1:\n%s", code, p.out.String())
	}
	if !strings.Contains(p.out.String(), "second signal") {
		t.Errorf("it does not say why:\n%s", p.out.String())
	}
}
