package web

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

// TestIngestIsForOtherMachines makes sure that posted events pass the guard
// that keeps other machines from everything else, and nothing else does.
func TestIngestIsForOtherMachines(t *testing.T) {
	answer := func(status int) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) })
	}
	s := New(Options{Listen: "0.0.0.0:80", Snapshot: func() Snapshot { return line() }, API: answer(200), Ingest: answer(202)})
	for _, c := range []struct {
		method, path, host string
		want               int
	}{
		{"POST", "/api/v1/events", "10.0.0.9", 202},
		{"POST", "/hooks/nvr", "10.0.0.9", 202},
		{"POST", "/hooks/nvr", "evil.example", 421},
		{"POST", "/hooks/nvr/more", "10.0.0.9", 404},
		{"GET", "/hooks/nvr", "10.0.0.9", 405},
		{"POST", "/api/v1/uplink/pause", "10.0.0.9", 403},
		{"POST", "/api/v1/events/x", "10.0.0.9", 403},
	} {
		r := httptest.NewRequest(c.method, c.path, nil)
		r.RemoteAddr, r.Host = "10.0.0.64:4711", c.host
		w := httptest.NewRecorder()
		s.handler().ServeHTTP(w, r)
		if w.Code != c.want {
			t.Errorf("%s %s at %s: got %d, expected %d", c.method, c.path, c.host, w.Code, c.want)
		}
	}
}
