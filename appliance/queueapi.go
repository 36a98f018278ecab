package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"
	"unicode"
	"unicode/utf8"

	"outstation/uplink"
)

// queueCalls registers what can be asked of a queue: that of a running
// appliance, or one that a tool has opened. Only a.queue is used. Messages
// themselves are handed out to posts alone, which come from this machine.
func (a *app) queueCalls(mux *http.ServeMux) {
	mux.HandleFunc("GET /api/v1/ledger", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, webLedger(a.queue.Ledger(), a.queue.Stats().Deaths))
	})
	mux.HandleFunc("GET /api/v1/dlq", a.serveDead)
	mux.HandleFunc("POST /api/v1/dlq/{id}/show", a.serveDeadLetter)
	mux.HandleFunc("POST /api/v1/dlq/{id}/{what}", a.changeDeadLetter)
	mux.HandleFunc("GET /api/v1/queue", a.serveQueue)
	mux.HandleFunc("POST /api/v1/queue/peek", a.peekQueue)
	mux.HandleFunc("POST /api/v1/queue/purge", a.purgeQueue)
	mux.HandleFunc("POST /api/v1/queue/fsck", a.checkQueue)
	mux.HandleFunc("POST /api/v1/queue/export", a.exportQueue)
	mux.HandleFunc("POST /api/v1/queue/import", a.importQueue)
}

func (a *app) serveQueue(w http.ResponseWriter, _ *http.Request) {
	streams, err := a.queue.Streams()
	if err != nil {
		answer(w, http.StatusInternalServerError, apiError{err.Error()})
		return
	}
	if streams == nil {
		streams = []uplink.StreamInfo{}
	}
	answer(w, http.StatusOK, streams)
}

// peeked is a queued record, as it is shown.
type peeked struct {
	Seq        uint64    `json:"seq"`
	Route      string    `json:"route"`
	Lane       int       `json:"lane"`
	Topic      string    `json:"topic"`
	QoS        byte      `json:"qos"`
	Retain     bool      `json:"retain"`
	AcceptedAt time.Time `json:"accepted_at"`
	ExpiresAt  time.Time `json:"expires_at,omitzero"`
	Bytes      int       `json:"payload_bytes"`
	Text       string    `json:"payload,omitempty"` // where it is text
	Payload    []byte    `json:"payload_base64,omitempty"`
}

// maxPeek bounds what is shown at once.
const maxPeek = 1000

func (a *app) peekQueue(w http.ResponseWriter, r *http.Request) {
	n, err := strconv.Atoi(r.FormValue("n"))
	after, errAfter := uint64(0), error(nil)
	if s := r.FormValue("after"); s != "" {
		after, errAfter = strconv.ParseUint(s, 10, 64)
	}
	if err != nil || errAfter != nil || n < 1 || n > maxPeek {
		answer(w, http.StatusBadRequest, apiError{fmt.Sprintf("expected n from 1 to %d, and after as a sequence number", maxPeek)})
		return
	}
	if a.unknownRoute(w, r.FormValue("route")) {
		return
	}
	entries, err := a.queue.Peek(r.FormValue("route"), after, n)
	if err != nil {
		answer(w, http.StatusInternalServerError, apiError{err.Error()})
		return
	}
	out := make([]peeked, len(entries))
	for i, e := range entries {
		out[i] = peeked{
			Seq: e.Seq, Route: e.Route, Lane: e.Lane, Topic: e.Topic, QoS: e.QoS, Retain: e.Retain,
			AcceptedAt: e.Accepted, ExpiresAt: e.Expiry, Bytes: len(e.Payload),
		}
		if isText(e.Payload) {
			out[i].Text = string(e.Payload)
		} else {
			out[i].Payload = e.Payload
		}
	}
	answer(w, http.StatusOK, out)
}

// isText reports whether a payload can be shown as it is.
func isText(b []byte) bool {
	if !utf8.Valid(b) {
		return false
	}
	for _, r := range string(b) {
		if !unicode.IsPrint(r) && !unicode.IsSpace(r) {
			return false
		}
	}
	return true
}

// purgeQueue needs a route, or all=true.
func (a *app) purgeQueue(w http.ResponseWriter, r *http.Request) {
	route, before := r.FormValue("route"), time.Time{}
	var err error
	if s := r.FormValue("before"); s != "" {
		before, err = time.Parse(time.RFC3339, s)
	}
	if err != nil || (route == "") == (r.FormValue("all") == "") {
		answer(w, http.StatusBadRequest, apiError{"expected a route or all, and before as a time such as 2026-01-31T06:00:00Z"})
		return
	}
	if a.unknownRoute(w, route) {
		return
	}
	unhurried(w)
	gone, err := a.queue.Purge(r.Context(), route, before)
	if err != nil {
		answer(w, statusOf(err), apiError{fmt.Sprintf("%v; purged so far: %d records", err, gone.Records)})
		return
	}
	answer(w, http.StatusOK, gone)
}

// unknownRoute refuses the name of a route that never had a record.
func (a *app) unknownRoute(w http.ResponseWriter, route string) bool {
	if _, known := a.queue.Ledger()[route]; route == "" || known {
		return false
	}
	answer(w, http.StatusNotFound, apiError{fmt.Sprintf("no record was ever queued on a route called %q", route)})
	return true
}

// statusOf is how HTTP calls an error of the queue.
func statusOf(err error) int {
	switch {
	case errors.Is(err, uplink.ErrExport):
		return http.StatusBadRequest
	case errors.Is(err, uplink.ErrBusy):
		return http.StatusServiceUnavailable
	case errors.Is(err, uplink.ErrFull):
		return http.StatusInsufficientStorage
	}
	return http.StatusInternalServerError
}

func (a *app) checkQueue(w http.ResponseWriter, r *http.Request) {
	unhurried(w)
	report, err := a.queue.Check(r.Context())
	if err != nil {
		answer(w, http.StatusInternalServerError, apiError{err.Error()})
		return
	}
	answer(w, http.StatusOK, report)
}

func (a *app) exportQueue(w http.ResponseWriter, r *http.Request) {
	unhurried(w)
	w.Header().Set("Content-Type", "application/jsonl")
	if _, _, err := a.queue.Export(r.Context(), w); err != nil {
		a.log.Error("export of the queue failed", "error", err) // whoever reads misses its last line
	}
}

func (a *app) importQueue(w http.ResponseWriter, r *http.Request) {
	unhurried(w)
	done, err := a.queue.Import(r.Context(), r.Body)
	switch {
	case err == nil:
		answer(w, http.StatusOK, done)
	case errors.Is(err, context.Canceled):
	default:
		answer(w, statusOf(err), apiError{fmt.Sprintf("%v; imported so far: %d records and %d dead letters; the same import goes on there", err, done.Queued.Records, done.Dead.Records)})
	}
}

// unhurried lifts the limits on the time of a request that may take long.
func unhurried(w http.ResponseWriter) {
	c := http.NewResponseController(w)
	_ = c.SetReadDeadline(time.Time{})  // a tool's own connection has none
	_ = c.SetWriteDeadline(time.Time{}) // nor this
}
