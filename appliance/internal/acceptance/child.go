package acceptance

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"outstation/web"
)

const (
	// stopTimeout bounds a stop in order; the appliance gives up earlier.
	stopTimeout = 15 * time.Second
	// interruptedStop bounds it where somebody waits at the terminal.
	interruptedStop = 4 * time.Second
	pollTimeout     = 2 * time.Second
	tailLines       = 20 // of what a child prints are kept for an error
)

// child is one life of the appliance, as a process of its own.
type child struct {
	cmd    *exec.Cmd
	exited chan struct{} // closed when the process has ended
	client http.Client

	mu   sync.Mutex
	page string   // address, once it was printed
	tail []string // of its output
}

// startChild runs the appliance with a configuration. It returns at once.
func startChild(o Options, config string, environ []string) (*child, error) {
	c := &child{
		cmd:    exec.Command(o.Executable, "run", "--config", config),
		exited: make(chan struct{}),
		client: http.Client{Transport: &http.Transport{}, Timeout: pollTimeout}, // it is on this machine: no proxy
	}
	c.cmd.Env = slices.Concat(withoutOurs(os.Environ()), environ)
	// It ends with this process, and the terminal's Ctrl-C does not reach it: this process stops it.
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("the appliance: %w", err)
	}
	c.cmd.Stderr = c.cmd.Stdout
	if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("the appliance does not start: %w", err)
	}
	go func() {
		c.listen(out)
		_ = c.cmd.Wait() // how it ended is in ProcessState
		c.client.CloseIdleConnections()
		close(c.exited)
	}()
	return c, nil
}

// withoutOurs drops what would change the configuration of the child, or its
// way to the centre.
func withoutOurs(environ []string) []string {
	return slices.DeleteFunc(slices.Clone(environ), func(pair string) bool {
		name, _, _ := strings.Cut(pair, "=")
		return slices.Contains(proxyVariables, name) ||
			(strings.HasPrefix(name, "OUTSTATION_") && !strings.HasPrefix(name, "OUTSTATION_TEST_"))
	})
}

// listen reads what the child prints, until it ends.
func (c *child) listen(out io.Reader) {
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		c.mu.Lock()
		if address, ok := strings.CutPrefix(strings.TrimSpace(lines.Text()), "page     "); ok && c.page == "" {
			c.page = address
		}
		if c.tail = append(c.tail, lines.Text()); len(c.tail) > tailLines {
			c.tail = c.tail[1:]
		}
		c.mu.Unlock()
	}
	_, _ = io.Copy(io.Discard, out) // a line that is too long must not hold it up
}

// status asks the page.
func (c *child) status(ctx context.Context) (s web.Snapshot, err error) {
	c.mu.Lock()
	page := c.page
	c.mu.Unlock()
	if page == "" {
		return s, errors.New("it is starting")
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, page+"status.json", nil)
	if err != nil {
		return s, err
	}
	resp, err := c.client.Do(req)
	if err != nil {
		return s, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return s, fmt.Errorf("status.json: %s", resp.Status)
	}
	return s, json.NewDecoder(resp.Body).Decode(&s)
}

// ended reports whether the process has ended.
func (c *child) ended() bool {
	select {
	case <-c.exited:
		return true
	default:
		return false
	}
}

// kill ends the process at once and waits for that.
func (c *child) kill() {
	_ = c.cmd.Process.Kill() // it may have ended by itself
	<-c.exited
}

// stop ends the process in order, or by a kill after the timeout.
func (c *child) stop(timeout time.Duration) error {
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop the appliance: %w", err)
	}
	select {
	case <-c.exited:
	case <-time.After(timeout):
		c.kill()
		return fmt.Errorf("the appliance did not stop within %v", timeout)
	}
	if code := c.cmd.ProcessState.ExitCode(); code != 0 {
		return fmt.Errorf("the appliance stopped with exit status %d: %s", code, c.said())
	}
	return nil
}

// said is the end of what the process printed.
func (c *child) said() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return strings.Join(c.tail, "\n")
}
