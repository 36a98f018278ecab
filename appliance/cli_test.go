package main

import (
	"bytes"
	"os/exec"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestScripts runs the command line as people do; see testdata/*.txt.
func TestScripts(t *testing.T) {
	program := binary(t)
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(e *testscript.Env) error {
			e.Setenv("OUTSTATION", program)
			page := freeLoopback(t)
			e.Setenv("PORT1", freeLoopback(t))
			e.Setenv("PORT2", freeLoopback(t))
			e.Setenv("WEB", "http://"+page)
			e.Setenv("OUTSTATION_TEST_PAGE", page)
			return nil
		},
	})
}

// runOnce runs the program to its end.
func runOnce(t testing.TB, args ...string) (code int, out string) {
	t.Helper()
	var b bytes.Buffer
	cmd := exec.Command(binary(t), args...)
	cmd.Stdout, cmd.Stderr = &b, &b
	err := cmd.Run()
	if cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), b.String()
}
