package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// TestPubackFollowsASync watches the system calls of the program: between
// reading a PUBLISH and writing its PUBACK a sync must begin and end. kill -9
// would prove nothing, since it keeps the page cache.
func TestPubackFollowsASync(t *testing.T) {
	for _, topic := range []string{"sensors/x", "local/x"} {
		if missing := unsyncedPubacks(t, topic, nil); len(missing) > 0 {
			t.Errorf("on %s: PUBACKs without a sync before them: %v", topic, missing)
		}
	}
}

// TestSyncProofCanFail runs the same proof with the sync turned off.
func TestSyncProofCanFail(t *testing.T) {
	for _, topic := range []string{"sensors/x", "local/x"} {
		missing := unsyncedPubacks(t, topic, []string{beUnsynced + "=1"})
		if len(missing) < tracedPublishes {
			t.Errorf("on %s, without a sync: only %d of %d PUBACKs were found to lack one", topic, len(missing), tracedPublishes)
		}
	}
}

const tracedPublishes = 20

// unsyncedPubacks publishes one message after the other under strace, and
// returns those whose PUBACK no sync precedes. A device that is away is owed
// what is published below local.
func unsyncedPubacks(t *testing.T, topic string, environ []string) (missing []int) {
	t.Helper()
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("strace is not installed; make test installs it")
	}
	trace := filepath.Join(t.TempDir(), "trace")
	cfg := testConfig(t, t.TempDir(), "tcp://127.0.0.1:1") // no centre: nothing else is written
	p := start(t, cfg, append(environ, beProgram+"=1"), strace, "-f", "-o", trace, "-s", "128", "-xx",
		"-e", "trace=read,write,fsync,fdatasync,msync", "-e", "signal=none", os.Args[0])
	subscribeAndLeave(t, "tcp://"+cfg.Broker.Listeners[0].Address, "away", "local/#")
	c := mqtt.NewClient(mqtt.NewClientOptions().AddBroker("tcp://" + cfg.Broker.Listeners[0].Address).SetClientID("dev"))
	if tok := c.Connect(); tok.Wait() && tok.Error() != nil {
		t.Fatal(tok.Error())
	}
	for i := range tracedPublishes {
		if tok := c.Publish(topic, 1, false, marker(i)); tok.Wait() && tok.Error() != nil {
			t.Fatal(tok.Error())
		}
	}
	c.Disconnect(100)
	p.stopChild(t)
	return analyse(t, trace)
}

func marker(i int) string { return fmt.Sprintf("marker-%04d-", i) }

// stopChild ends the traced program; strace ends with it.
func (p *process) stopChild(t *testing.T) {
	t.Helper()
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", p.cmd.Process.Pid, p.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.Fields(string(children))[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	err = <-p.done
	p.done <- err
}

var (
	syncBegins = regexp.MustCompile(`^(\d+) +(?:fsync|fdatasync|msync)\(`)
	syncEnds   = regexp.MustCompile(`^(\d+) +(?:(?:fsync|fdatasync|msync)\(.*|<\.\.\. (?:fsync|fdatasync|msync) resumed>.*)= 0$`)
	ackWritten = regexp.MustCompile(`^\d+ +write\(\d+, "\\x40\\x02`)
)

// analyse reads a trace. The publishes are sequential, so the first PUBACK
// that is written after the i-th marker was read belongs to it.
func analyse(t *testing.T, trace string) (missing []int) {
	t.Helper()
	f, err := os.Open(trace)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	waiting, synced := -1, false // the publish without a PUBACK so far, and whether it was synced
	begun := map[string]bool{}   // threads in a sync that began after the PUBLISH was read
	nextMarker, acks := 0, 0
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := lines.Text()
		if strings.Contains(line, hexOf(marker(nextMarker))) && strings.Contains(line, "read") {
			waiting, synced, nextMarker = nextMarker, false, nextMarker+1
			clear(begun)
		}
		if m := syncBegins.FindStringSubmatch(line); m != nil {
			begun[m[1]] = true
		}
		if m := syncEnds.FindStringSubmatch(line); m != nil && begun[m[1]] {
			synced = true
		}
		if waiting >= 0 && ackWritten.MatchString(line) {
			if !synced {
				missing = append(missing, waiting)
			}
			waiting, acks = -1, acks+1
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	if acks != tracedPublishes {
		t.Fatalf("the trace shows %d PUBACKs, expected %d", acks, tracedPublishes)
	}
	return missing
}

func hexOf(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		fmt.Fprintf(&b, `\x%02x`, c)
	}
	return b.String()
}
