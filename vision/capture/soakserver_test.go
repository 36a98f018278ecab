//go:build !novision && matprofile && soak

package capture

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"testing"

	"outstation/vision/capture/rtsptest"
)

// cameraServers is a process with servers, so that the memory that is measured
// is that of their reader alone. It is safe for concurrent use.
type cameraServers struct {
	mu   sync.Mutex
	ask  io.WriteCloser
	told *bufio.Reader
}

// startServers runs this test again as a process that serves.
func startServers(t *testing.T) *cameraServers {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestSoak$", "-test.timeout=0")
	cmd.Env = append(os.Environ(), "SOAK_SERVES=1")
	cmd.Stderr = os.Stderr
	ask, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	told, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ask.Close() // which ends it
		io.Copy(io.Discard, told)
		if err := cmd.Wait(); err != nil {
			t.Errorf("the process with the servers: %v", err)
		}
	})
	return &cameraServers{ask: ask, told: bufio.NewReader(told)}
}

// do has server i do something. What it answers is in out.
func (s *cameraServers) do(out any, order string, i int, argument any) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := fmt.Fprintln(s.ask, order, i, argument); err != nil {
		return fmt.Errorf("%s %d %v: %w", order, i, argument, err)
	}
	if _, err := fmt.Fscanln(s.told, out); err != nil {
		return fmt.Errorf("%s %d %v: its answer: %w", order, i, argument, err)
	}
	return nil
}

// serveOrders is that process: it reads orders until their end.
func serveOrders(t *testing.T) {
	var servers [soakCameras]*rtsptest.Server
	for {
		var order, argument string
		var i int
		if _, err := fmt.Scanln(&order, &i, &argument); err != nil {
			break
		}
		answer, err := carryOut(t, &servers[i], order, argument)
		if err != nil {
			t.Fatalf("%s %d %s: %v", order, i, argument, err)
		}
		fmt.Println(answer)
	}
	for _, s := range servers {
		if s != nil {
			s.Close()
		}
	}
}

// carryOut does one thing to a server.
func carryOut(t *testing.T, s **rtsptest.Server, order, argument string) (answer any, err error) {
	width := 0
	fmt.Sscan(argument, &width)
	switch order {
	case "start":
		*s, err = rtsptest.Start(rtsptest.Options{FPS: 10, Clip: coded(t, rtsptest.H264, width, soakHeight)})
		if err != nil {
			return nil, err
		}
		return (*s).URL(), nil
	case "replace": // one whose connections died would hold them for ever
		address := (*s).Address()
		(*s).Close()
		*s, err = rtsptest.Start(rtsptest.Options{FPS: 10, Clip: coded(t, rtsptest.H264, width, soakHeight), Address: address})
	case "stall":
		(*s).Stall(argument == "true")
	case "die":
		(*s).Die(true)
	case "play":
		(*s).Play(coded(t, rtsptest.H264, width, soakHeight))
	case "played":
	default:
		return nil, fmt.Errorf("unknown order")
	}
	if err != nil {
		return nil, err
	}
	return (*s).Played(), nil
}
