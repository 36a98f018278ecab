package web

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"log/slog"
	"net/http"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// handler returns all endpoints behind the guards.
func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", s.serveRoot)
	mux.HandleFunc("GET /status.json", s.serveStatus)
	mux.HandleFunc("GET /health", s.serveHealth)
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.metrics, promhttp.HandlerOpts{
		ErrorLog:            slog.NewLogLogger(s.log.Handler(), slog.LevelWarn), // also of a scraper that hangs up
		ErrorHandling:       promhttp.ContinueOnError,
		MaxRequestsInFlight: 4,
	}))
	mux.HandleFunc("POST /api/v1/demo/outage", s.serveOutage)
	if s.options.API != nil {
		mux.Handle("/api/v1/", s.guardPosts(s.options.API))
		mux.Handle("POST /api/v1/clients/{id}/{what}", s.guardPosts(s.backToDevices(s.options.API)))
	}
	if s.options.Clients != nil {
		mux.HandleFunc("GET /devices", s.serveDevices)
	}
	if s.options.Ingest != nil {
		mux.Handle("POST /api/v1/events", s.options.Ingest)
		mux.Handle("POST /hooks/{source}", s.options.Ingest)
	}
	mux.Handle("GET /assets/{file}", s.assetsHandler())
	return secureHeaders(s.guardHost(http.NewCrossOriginProtection().Handler(mux)))
}

func (s *Server) snapshot() Snapshot { return s.options.Snapshot().withLists() }

func (s *Server) serveRoot(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Vary", "Accept")
	if prefersJSON(r.Header.Values("Accept")) {
		s.serveStatus(w, r)
		return
	}
	s.servePage(w)
}

func (s *Server) serveStatus(w http.ResponseWriter, _ *http.Request) {
	s.writeJSON(w, http.StatusOK, s.snapshot())
}

// serveHealth answers for load balancers and watchdogs, which read the status code only: an appliance that cannot reach
// its centre is not well, however well the rest is.
func (s *Server) serveHealth(w http.ResponseWriter, _ *http.Request) {
	snap := s.snapshot()
	status := http.StatusOK
	down := snap.Uplink.State == UplinkDown || snap.Uplink.State == ""
	if down || snap.Health.State == Unhealthy {
		status = http.StatusServiceUnavailable
	}
	s.writeJSON(w, status, snap.Health)
}

// assetsHandler serves the embedded files for ever: the page names them with the hash of their content.
func (s *Server) assetsHandler() http.Handler {
	files, err := fs.Sub(assets, "assets")
	if err != nil {
		panic(err) // the name is a constant
	}
	server := http.StripPrefix("/assets/", http.FileServerFS(files))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.PathValue("file") {
		case "page.css", "page.js", "icon.svg":
			w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
			server.ServeHTTP(w, r)
		default:
			http.NotFound(w, r)
		}
	})
}

// failure is the JSON body of an answer that is an error.
type failure struct {
	Error string `json:"error"`
}

// writeJSON writes v, or a 500 where v cannot be written as JSON, such as a number that is not finite.
func (s *Server) writeJSON(w http.ResponseWriter, status int, v any) {
	var body bytes.Buffer
	enc := json.NewEncoder(&body)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		s.fail(w, "encoding the status", err)
		return
	}
	s.write(w, status, "application/json", &body)
}

// fail answers 500 and logs the cause, which the reader of the page has no use for.
func (s *Server) fail(w http.ResponseWriter, doing string, err error) {
	s.log.Error("a request failed", "doing", doing, "error", err)
	http.Error(w, "The appliance could not answer; its log has the cause.", http.StatusInternalServerError)
}

func (s *Server) write(w http.ResponseWriter, status int, mediaType string, body *bytes.Buffer) {
	w.Header().Set("Content-Type", mediaType)
	w.WriteHeader(status)
	if _, err := body.WriteTo(w); err != nil {
		s.log.Debug("the client went away", "error", err)
	}
}
