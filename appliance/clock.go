package main

import (
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"outstation/uplink/wire"
)

// clockState says whether the kernel's clock is disciplined, by NTP for
// example (adjtimex(2), STA_UNSYNC).
func clockState() string {
	var t unix.Timex
	if state, err := unix.Adjtimex(&t); err != nil || state == unix.TIME_ERROR || t.Status&unix.STA_UNSYNC != 0 {
		return wire.ClockFreeRunning
	}
	return wire.ClockSynchronised
}

// bootID names this boot of the machine, or is empty where the kernel does
// not say.
func bootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// monotonicAt is CLOCK_MONOTONIC, in ns, at t, which must come from time.Now
// of this process.
func monotonicAt(t time.Time) int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return 0
	}
	return ts.Nano() - time.Since(t).Nanoseconds()
}
