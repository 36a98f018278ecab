package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"
)

// serveMosquitto starts Mosquitto with what the suites want of a server.
func serveMosquitto(program string) (port string, stop func(), err error) {
	dir, err := os.MkdirTemp("", "conformance")
	if err != nil {
		return "", nil, err
	}
	if port, err = freePort(); err != nil {
		return "", nil, err
	}
	acl, conf := filepath.Join(dir, "acl"), filepath.Join(dir, "conf")
	text := fmt.Sprintf("listener %s 127.0.0.1\nallow_anonymous true\nacl_file %s\nmax_keepalive 60\nuser root\nlog_type none\n", port, acl)
	for file, content := range map[string]string{acl: rules, conf: text} {
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			return "", nil, err
		}
	}
	cmd := exec.Command(program, "-c", conf)
	if err := cmd.Start(); err != nil {
		return "", nil, err
	}
	stop = func() {
		_ = cmd.Process.Kill() // it may have ended by itself
		_ = cmd.Wait()         // and says that it was killed
		_ = os.RemoveAll(dir)  // the system's own cleaner takes what is left
	}
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if c, err := net.Dial("tcp", "127.0.0.1:"+port); err == nil {
			return port, stop, c.Close()
		}
	}
	stop()
	return "", nil, fmt.Errorf("%s does not answer on port %s within 10 s", program, port)
}

func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	port := l.Addr().(*net.TCPAddr).Port
	return strconv.Itoa(port), l.Close()
}
