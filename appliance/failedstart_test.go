package main

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"outstation/appliance/internal/socket"
	"outstation/uplink"
)

// TestFailedStartLeavesTheHealthyOneAlone starts a second appliance of the same
// name beside one that runs, with a port or socket that the first has.
func TestFailedStartLeavesTheHealthyOneAlone(t *testing.T) {
	centre := startMosquitto(t)
	cfg := testConfig(t, t.TempDir(), centre.URL())
	cfg.Vision.Models = []ModelConfig{{Name: "line", Path: builtinLine}}
	cfg.Vision.Cameras = []CameraConfig{{ID: "cam-1", Source: "sim://line", Model: "line", StallAfter: time.Minute, FPS: 1}}
	cfg.Vision.Socket.Path, cfg.Vision.Socket.MaxConnections = filepath.Join(t.TempDir(), "vision.sock"), socket.DefaultConnections
	first := startApp(t, cfg)
	seen := consume(t, centre.URL(), "#")
	eventually(t, "the first at the centre", func() bool {
		return first.link.Stats().State == uplink.LinkConnected && first.presences[0].Up() && first.presences[1].Up() && seen.last("/dev-1/status") != nil
	})
	for name, share := range map[string]struct {
		with func(*Config)
		says string
	}{
		"broker": {func(c *Config) { c.Broker.Listeners = cfg.Broker.Listeners }, "change broker.listeners"},
		"web":    {func(c *Config) { c.Web.Listen = cfg.Web.Listen }, "change web.listen"},
		"socket": {func(c *Config) { c.Vision.Socket.Path = cfg.Vision.Socket.Path }, "another vision.socket.path"},
	} {
		t.Run(name, func(t *testing.T) {
			second := cfg
			second.DataDir = t.TempDir()
			second.Broker.Listeners = []ListenerConfig{cfg.Broker.Listeners[0]}
			second.Broker.Listeners[0].Address, second.Web.Listen = freeLoopback(t), freeLoopback(t)
			second.Vision.Socket.Path = filepath.Join(second.DataDir, "own.sock")
			share.with(&second)
			kept := fmt.Appendf(nil, `{"cameras":{"cam-1":{"until":%q}}}`, time.Now().Add(-time.Hour).UTC().Format(time.RFC3339))
			if err := os.WriteFile(coveragePath(second.DataDir), kept, 0o600); err != nil {
				t.Fatal(err)
			}
			a, err := openApp(second, slog.New(slog.DiscardHandler), appOptions{})
			if a != nil || !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), share.says) {
				t.Fatalf("got %v, expected an error that says %q", err, share.says)
			}
			if now, err := os.ReadFile(coveragePath(second.DataDir)); err != nil || !bytes.Equal(now, kept) {
				t.Errorf("blind time: got %s (%v), expected what was there", now, err)
			}
			for _, address := range []string{second.Web.Listen, second.Broker.Listeners[0].Address} {
				if address == cfg.Web.Listen || address == cfg.Broker.Listeners[0].Address {
					continue
				}
				ln, err := net.Listen("tcp", address)
				if err != nil {
					t.Errorf("left behind: %v", err)
					continue
				}
				_ = ln.Close()
			}
		})
	}
	if got := first.link.Stats().Generation; got != 1 {
		t.Errorf("the first appliance's link was made %d times", got)
	}
	for _, m := range seen.on("/status") {
		if bytes.Contains(m.Payload(), []byte(`"stopped"`)) || bytes.Contains(m.Payload(), []byte("connection lost")) {
			t.Errorf("the centre was told on %s: %s", m.Topic(), m.Payload())
		}
	}
}
