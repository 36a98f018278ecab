package web

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestHostsThatAreAnswered(t *testing.T) {
	server := New(Options{Listen: "Press-7.local:8080", Hosts: []string{"page.example.com"}, Snapshot: line})
	for host, want := range map[string]bool{
		"localhost": true, "localhost:8080": true, "LOCALHOST.:8080": true, "127.0.0.1": true, "10.0.0.9:8080": true,
		"[::1]:8080": true, "[fe80::1]": true, "press-7.local:8080": true, "PAGE.example.com": true,
		"evil.example.com": false, "localhost.evil.example.com": false, "127.0.0.1.evil.example.com:8080": false, "": false,
	} {
		got := ask(t, server, "GET", "/status.json", "", "Host", host)
		if answered := got.code == 200; answered != want {
			t.Errorf("Host %q: got %d, want an answer: %t", host, got.code, want)
		}
		if !want && (got.code != 421 || strings.Contains(got.body, "press-7.local:8080")) {
			t.Errorf("Host %q: got %d %s", host, got.code, got.body)
		}
	}
	all := New(Options{Listen: ":8080", Snapshot: line})
	if got := ask(t, all, "GET", "/", "", "Host", "press-7.local"); got.code != 421 {
		t.Errorf("a host that nobody configured: got %d, want 421", got.code)
	}
}

func TestCrossSitePostsAreRefused(t *testing.T) {
	for header, want := range map[string]int{
		"Sec-Fetch-Site: cross-site":     403,
		"Sec-Fetch-Site: same-site":      403,
		"Sec-Fetch-Site: same-origin":    303,
		"Origin: https://evil.example":   403,
		"Origin: http://localhost:8080":  303,
		"User-Agent: a tool, no browser": 303,
	} {
		name, value, _ := strings.Cut(header, ": ")
		got := ask(t, serverOf(line()), "POST", "/api/v1/demo/outage", "duration=30s",
			"Content-Type", "application/x-www-form-urlencoded", name, value)
		if got.code != want {
			t.Errorf("%s: got %d, want %d", header, got.code, want)
		}
	}
}

func TestEveryAnswerIsGuarded(t *testing.T) {
	for _, target := range []string{"/", "/status.json", "/health", "/metrics", "/assets/page.js", "/nothing"} {
		got := ask(t, serverOf(line()), "GET", target, "")
		if policy := got.header.Get("Content-Security-Policy"); policy != contentPolicy {
			t.Errorf("%s: got Content-Security-Policy %q", target, policy)
		}
		if got.header.Get("X-Content-Type-Options") != "nosniff" || got.header.Get("Referrer-Policy") != "no-referrer" {
			t.Errorf("%s: got %v", target, got.header)
		}
	}
	if strings.Contains(contentPolicy, "unsafe") {
		t.Error("the policy lets inline code run")
	}
}

func TestPostsToTheAPIComeFromThisMachineOnly(t *testing.T) {
	served := 0
	s := New(Options{Snapshot: line, API: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { served++ })})
	for _, c := range []struct {
		method, from string
		want         int
	}{
		{"POST", "127.0.0.1:9", 200}, {"POST", "[::1]:9", 200}, {"GET", "192.0.2.1:9", 200},
		{"POST", "192.0.2.1:9", 403}, {"DELETE", "192.0.2.1:9", 403}, {"POST", "nonsense", 403},
	} {
		r := httptest.NewRequest(c.method, "http://127.0.0.1/api/v1/x", nil)
		r.RemoteAddr = c.from
		w := httptest.NewRecorder()
		s.http.Handler.ServeHTTP(w, r)
		if w.Code != c.want {
			t.Errorf("%s from %s: got %d, want %d", c.method, c.from, w.Code, c.want)
		}
	}
	if served != 3 {
		t.Errorf("%d requests were served, want 3", served)
	}
}
