package models

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// beWriter makes this test binary a process that adds and activates versions
// in the store of that directory until it is killed.
const beWriter = "OUTSTATION_TEST_MODEL_WRITER"

func TestMain(m *testing.M) {
	if dir := os.Getenv(beWriter); dir != "" {
		if err := write(New(Options{Dir: dir})); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// write says each version that is active now, after it is.
func write(s *Store) error {
	for n := 0; ; n++ {
		a := Addition{Name: "press", Fetch: s.FromBytes(content(n % 5)), Golden: someGolden()}
		out, err := s.Add(context.Background(), a)
		if err != nil {
			return err
		}
		if _, err := s.Activate("press", out.SHA256, Gate{Passed: true}); err != nil {
			return err
		}
		fmt.Println(out.SHA256)
		if err := s.Trust("press", out.SHA256); err != nil {
			return err
		}
		if next := sumOf(content((n + 2) % 5)); n > 5 {
			if err := s.Remove("press", next); err != nil {
				return err
			}
		}
	}
}

// TestAKillLeavesNothingHalf kills a process that adds, activates and removes
// versions, at random moments. After each kill every version is whole, what is
// active is the last that was said to be or the one it was about to say, and
// the remains are swept.
func TestAKillLeavesNothingHalf(t *testing.T) {
	s := newStore(t)
	rnd := rand.New(rand.NewPCG(3, 3))
	swept := 0
	for round := range 15 {
		cmd := exec.Command(os.Args[0], "-test.run=^$")
		cmd.Env = append(os.Environ(), beWriter+"="+s.dir)
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		said, lines := "", bufio.NewScanner(out)
		for n := 8 + rnd.IntN(20); n > 0 && lines.Scan(); n-- {
			said = lines.Text()
		}
		time.Sleep(time.Duration(rnd.IntN(8000)) * time.Microsecond) // where the kill falls, not synchronisation
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		for lines.Scan() {
			said = lines.Text()
		}
		_ = cmd.Wait() // it was killed
		st := state(t, s)
		if st.Current != said && st.Previous != said {
			t.Fatalf("round %d: %s is active, and before it %s; it said %s", round, st.Current, st.Previous, said)
		}
		n, err := s.Sweep()
		if err != nil {
			t.Fatal(err)
		}
		swept += n
		m, err := s.Model("press")
		if err != nil || len(m.Problems) > 0 {
			t.Fatalf("round %d: %+v, %v", round, m, err)
		}
		active := false
		for _, v := range m.Versions {
			if _, err := s.Check("press", v.SHA256); err != nil {
				t.Errorf("round %d: %v", round, err)
			}
			active = active || v.SHA256 == st.Current
		}
		if left, _ := filepath.Glob(filepath.Join(s.dir, "*", tempPrefix+"*")); !active || len(left) > 0 {
			t.Errorf("round %d: the active version is there: %v; left: %v", round, active, left)
		}
	}
	t.Logf("unfinished additions that were swept: %d", swept)
	if swept == 0 {
		t.Error("no kill fell into an addition")
	}
}
