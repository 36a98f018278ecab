//go:build linux && !novision

package onnx

import (
	"errors"
	"fmt"
	"syscall"
	"unsafe"
)

// action is the kernel's struct sigaction of x86-64 and arm64.
type action struct {
	handler, flags, restorer uintptr
	mask                     uint64
}

// lastSignal is the highest signal of Linux.
const lastSignal = 64

// keepSignals calls f and puts back every signal handler of the Go runtime
// that f replaced. CUDA installs its own (onnxruntime_go#140); then SIGTERM
// would no longer reach the program, or end it with a runtime error. Go itself
// does not notice: signal.Notify installs a handler once per process.
// Handlers that are not Go's are left as they are.
func keepSignals(f func() error) error {
	before, err := handlers()
	if err != nil {
		return err
	}
	return errors.Join(f(), restore(before))
}

// handlers are those of all signals, at their numbers.
func handlers() (all [lastSignal + 1]action, err error) {
	for n := 1; n <= lastSignal; n++ {
		if all[n], err = sigaction(n, nil); err != nil {
			return all, err
		}
	}
	return all, nil
}

// restore puts back the handlers of Go among these. SIGURG always has Go's:
// the runtime interrupts goroutines with it.
func restore(before [lastSignal + 1]action) error {
	goHandler := before[syscall.SIGURG].handler
	for n := 1; n <= lastSignal; n++ {
		if before[n].handler != goHandler {
			continue
		}
		now, err := sigaction(n, nil)
		if err != nil {
			return err
		}
		if now == before[n] {
			continue
		}
		if _, err := sigaction(n, &before[n]); err != nil {
			return err
		}
	}
	return nil
}

// sigaction returns the action of a signal, and sets another unless it is nil.
func sigaction(n int, set *action) (old action, err error) {
	_, _, e := syscall.RawSyscall6(syscall.SYS_RT_SIGACTION, uintptr(n), uintptr(unsafe.Pointer(set)), uintptr(unsafe.Pointer(&old)), 8, 0, 0)
	if e != 0 {
		return old, fmt.Errorf("sigaction of signal %d: %w", n, e)
	}
	return old, nil
}
