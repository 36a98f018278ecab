package web

import (
	"bytes"
	"errors"
	"log/slog"
	"math"
	"strings"
	"testing"
	"time"
)

func TestHealth(t *testing.T) {
	tests := []struct {
		health HealthState
		uplink UplinkState
		want   int
	}{
		{Healthy, UplinkConnected, 200},
		{Degraded, UplinkConnected, 200},
		{Unhealthy, UplinkConnected, 503},
		{Healthy, UplinkOff, 200},
		{Unhealthy, UplinkOff, 503},
		{Healthy, UplinkDown, 503},
		{Degraded, UplinkConnecting, 200},
		{Healthy, "", 503},
	}
	for _, tt := range tests {
		s := Snapshot{Health: Health{State: tt.health}, Uplink: Uplink{State: tt.uplink}}
		got := ask(t, serverOf(s), "GET", "/health", "")
		if got.code != tt.want {
			t.Errorf("health %q, uplink %q: got %d, want %d", tt.health, tt.uplink, got.code, tt.want)
		}
	}
	golden(t, "health.json", ask(t, serverOf(line()), "GET", "/health", "").body)
}

func TestRootNegotiates(t *testing.T) {
	tests := map[string]string{
		"":                                    "text/html",
		"*/*":                                 "text/html",
		"text/html,application/xml;q=0.9":     "text/html",
		"application/json":                    "application/json",
		"application/json, text/plain, */*":   "application/json",
		"application/*":                       "application/json",
		"text/html;q=0.5, application/json":   "application/json",
		"application/json;q=0.5, text/html":   "text/html",
		"application/json;q=0, */*":           "text/html",
		"application/json, text/html":         "text/html",
		"application/json;q=high, text/*;q=1": "text/html",
		"; ,,":                                "text/html",
	}
	for accept, want := range tests {
		got := ask(t, serverOf(line()), "GET", "/", "", "Accept", accept)
		if got.code != 200 || !strings.HasPrefix(got.header.Get("Content-Type"), want) {
			t.Errorf("Accept %q: got %d %q, want %s", accept, got.code, got.header.Get("Content-Type"), want)
		}
		if got.header.Get("Vary") != "Accept" {
			t.Errorf("Accept %q: got Vary %q", accept, got.header.Get("Vary"))
		}
	}
}

func TestUnknownPathsAndMethods(t *testing.T) {
	for target, want := range map[string]int{
		"GET /nothing": 404, "POST /": 405, "DELETE /status.json": 405, "GET /api/v1/demo/outage": 405,
		"GET /assets/": 404, "GET /assets/page.html": 404, "GET /assets/../server.go": 404, "HEAD /health": 503,
	} {
		method, path, _ := strings.Cut(target, " ")
		got := ask(t, serverOf(line()), method, path, "")
		if got.code != want && (want != 404 || got.code != 307) {
			t.Errorf("%s: got %d, want %d", target, got.code, want)
		}
	}
}

func TestAssets(t *testing.T) {
	for file, want := range map[string]string{"page.css": "text/css", "page.js": "text/javascript", "icon.svg": "image/svg+xml"} {
		got := ask(t, serverOf(line()), "GET", "/assets/"+file, "")
		if got.code != 200 || !strings.HasPrefix(got.header.Get("Content-Type"), want) {
			t.Errorf("%s: got %d %q, want %s", file, got.code, got.header.Get("Content-Type"), want)
		}
		if !strings.Contains(got.header.Get("Cache-Control"), "immutable") {
			t.Errorf("%s: got Cache-Control %q", file, got.header.Get("Cache-Control"))
		}
	}
}

func TestFailuresAreLoggedAndNotShown(t *testing.T) {
	var log bytes.Buffer
	s := line()
	s.Queue.FsyncP50MS = math.NaN()
	server := New(Options{Snapshot: func() Snapshot { return s }, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	got := ask(t, server, "GET", "/status.json", "")
	if got.code != 500 || strings.Contains(got.body, "NaN") || !strings.Contains(log.String(), "NaN") {
		t.Errorf("got %d %q, log %q", got.code, got.body, log.String())
	}
	log.Reset()
	if _, err := server.page.New("checks").Parse(`{{index .Checks 99}}`); err != nil {
		t.Fatal(err)
	}
	got = ask(t, server, "GET", "/", "")
	if got.code != 500 || strings.Contains(got.body, "<html") || !strings.Contains(log.String(), "rendering the page") {
		t.Errorf("got %d %q, log %q", got.code, got.body, log.String())
	}
}

func TestOutage(t *testing.T) {
	const form, json = "application/x-www-form-urlencoded", "application/json"
	tests := map[string]struct {
		contentType, body string
		code              int
		length            time.Duration
		says              string
	}{
		"form":          {form, "duration=30s", 303, 30 * time.Second, ""},
		"json":          {json + "; charset=utf-8", `{"duration":"1m"}`, 202, time.Minute, `"duration": "1m0s"`},
		"shortest":      {json, `{"duration":"1s"}`, 202, time.Second, ""},
		"longest":       {json, `{"duration":"10m"}`, 202, 10 * time.Minute, ""},
		"too short":     {json, `{"duration":"999ms"}`, 400, 0, "out of range"},
		"too long":      {json, `{"duration":"10m1s"}`, 400, 0, "out of range"},
		"no duration":   {json, `{"duration":"long"}`, 400, 0, "from 1s to 10m"},
		"missing":       {form, "", 400, 0, "from 1s to 10m"},
		"not json":      {json, "{", 400, 0, "expected JSON such as"},
		"broken form":   {form, "duration=%zz", 400, 0, "expected a form"},
		"no type":       {"", "duration=30s", 400, 0, "expected application/json"},
		"large":         {json, `{"duration":"` + strings.Repeat("1", 5000) + `s"}`, 400, 0, "too large"},
		"refused below": {json, `{"duration":"13s"}`, 500, 0, "log has the cause"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var cut time.Duration
			s := New(Options{Snapshot: line, DemoOutage: func(d time.Duration) error {
				if d == 13*time.Second {
					return errors.New("an unlucky number")
				}
				cut = d
				return nil
			}})
			got := ask(t, s, "POST", "/api/v1/demo/outage", tt.body, "Content-Type", tt.contentType)
			if got.code != tt.code || cut != tt.length || !strings.Contains(got.body, tt.says) {
				t.Errorf("got %d, cut for %s: %s\nwant %d, cut for %s: …%s…", got.code, cut, got.body, tt.code, tt.length, tt.says)
			}
			if got.code == 303 && got.header.Get("Location") != "/" {
				t.Errorf("got Location %q, want /", got.header.Get("Location"))
			}
		})
	}
}

func TestOutageWithoutDemoCentre(t *testing.T) {
	s := New(Options{Snapshot: line})
	got := ask(t, s, "POST", "/api/v1/demo/outage", "duration=30s", "Content-Type", "application/x-www-form-urlencoded")
	if got.code != 404 || !strings.Contains(got.body, `"error": "this appliance has no demo centre`) {
		t.Errorf("got %d %s", got.code, got.body)
	}
}
