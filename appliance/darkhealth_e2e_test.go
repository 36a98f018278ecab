//go:build !novision

package main

import (
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"outstation/web"
)

// TestHealthAnswers503WhenNoCameraIsOnline runs the real program with two
// cameras whose files are not there, and a centre that is.
func TestHealthAnswers503WhenNoCameraIsOnline(t *testing.T) {
	cfg := testConfig(t, t.TempDir(), "")
	cfg.Uplink.Brokers, cfg.Demo.Centre = nil, "127.0.0.1:0"
	cfg.Vision.Cameras = nil
	for _, id := range []string{"cam-1", "cam-2"} {
		cam := CameraConfig{ID: id, Source: filepath.Join(t.TempDir(), "absent.avi")}
		cam.SetDefaults()
		cfg.Vision.Cameras = append(cfg.Vision.Cameras, cam)
	}
	p := start(t, cfg, nil, binary(t))
	s := p.until("a link and no camera", func(s web.Snapshot) bool {
		return s.Uplink.State == web.UplinkConnected && s.Health.State == web.Unhealthy
	})
	const first, last = "vision: no camera is online: camera cam-1: offline, unreachable: ", "; and 1 more"
	if got := s.Health.FirstCause; !strings.HasPrefix(got, first) || !strings.HasSuffix(got, last) {
		t.Errorf("got the first cause %q, expected %q…%q", got, first, last)
	}
	resp, err := http.Get("http://" + cfg.Web.Listen + "/health")
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("/health answers %s, expected 503", resp.Status)
	}
}
