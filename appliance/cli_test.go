package main

import (
	"bytes"
	"io"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestScripts runs the command line as people do; see testdata/*.txt.
func TestScripts(t *testing.T) {
	program := binary(t)
	testscript.Run(t, testscript.Params{
		Dir:  "testdata",
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"await": await},
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

// await is a command of the scripts: `await URL [text]` polls until the page
// answers with success, and with the text.
func await(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 || len(args) > 2 {
		ts.Fatalf("usage: await URL [text]")
	}
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		resp, err := http.Get(args[0])
		if err != nil {
			continue
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err == nil && resp.StatusCode == http.StatusOK && (len(args) == 1 || strings.Contains(string(body), args[1])) {
			return
		}
	}
	ts.Fatalf("not within a minute: %v", args)
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
