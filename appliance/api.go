package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"outstation/uplink"
)

// pausedKey is where the queue keeps that the uplink is paused, so that it
// stays paused over restarts.
const pausedKey = "uplink/paused"

// api is what can be asked of a running appliance below /api/v1/.
func (a *app) api() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /api/v1/uplink/{what}", a.serveUplink)
	a.queueCalls(mux)
	a.clientCalls(mux)
	a.modelCalls(mux)
	mux.HandleFunc("POST /api/v1/reload", a.serveReload)
	mux.HandleFunc("GET /api/v1/snapshots/{sha256}", a.serveSnapshot)
	mux.HandleFunc("/api/v1/", func(w http.ResponseWriter, r *http.Request) {
		answer(w, http.StatusNotFound, apiError{fmt.Sprintf("%s %s: no such call", r.Method, r.URL.Path)})
	})
	return mux
}

type apiError struct {
	Error string `json:"error"`
}

// answer writes v as JSON.
func answer(w http.ResponseWriter, status int, v any) {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(b, '\n')) // whoever asked is gone
}

func (a *app) serveUplink(w http.ResponseWriter, r *http.Request) {
	what := r.PathValue("what")
	if what != "pause" && what != "resume" {
		answer(w, http.StatusNotFound, apiError{fmt.Sprintf("expected pause or resume, got %q", what)})
		return
	}
	if err := a.pause(what == "pause"); err != nil {
		answer(w, http.StatusInternalServerError, apiError{err.Error()})
		return
	}
	answer(w, http.StatusOK, map[string]bool{"paused": what == "pause"})
}

// pause disconnects from the centre until further notice, or ends that. When
// it returns nil it holds over restarts.
func (a *app) pause(paused bool) error {
	note := uplink.Note{Key: pausedKey}
	if paused {
		note.Value = 1
	}
	if err := a.queue.SetNote(note); err != nil {
		return err
	}
	a.pauser.Set(paused)
	return nil
}

func (a *app) serveDead(w http.ResponseWriter, _ *http.Request) {
	letters := a.queue.DeadLetters()
	if letters == nil {
		letters = []uplink.DeadLetter{}
	}
	answer(w, http.StatusOK, letters)
}

// deadLetter is a letter with its message.
type deadLetter struct {
	uplink.DeadLetter
	Retain  bool   `json:"retain"`
	Payload []byte `json:"payload_base64"`
}

func (a *app) serveDeadLetter(w http.ResponseWriter, r *http.Request) {
	id, err := strconv.ParseUint(r.PathValue("id"), 10, 64)
	if err != nil {
		answer(w, http.StatusBadRequest, apiError{"expected the number of a dead letter"})
		return
	}
	d, err := a.queue.DeadLetter(id)
	if err != nil {
		deadError(w, err)
		return
	}
	m, err := d.Message()
	if err != nil {
		deadError(w, err)
		return
	}
	answer(w, http.StatusOK, deadLetter{d, m.Retain, m.Payload})
}

// changeDeadLetter retries or drops one letter, or all of them.
func (a *app) changeDeadLetter(w http.ResponseWriter, r *http.Request) {
	change := map[string]func(uint64) error{"retry": a.queue.Retry, "drop": a.queue.DropDead}[r.PathValue("what")]
	var ids []uint64
	if r.PathValue("id") == "all" {
		for _, d := range a.queue.DeadLetters() {
			ids = append(ids, d.ID)
		}
	} else if id, err := strconv.ParseUint(r.PathValue("id"), 10, 64); err == nil {
		ids = []uint64{id}
	} else {
		change = nil
	}
	if change == nil {
		answer(w, http.StatusBadRequest, apiError{"expected retry or drop of a dead letter's number, or of all"})
		return
	}
	for _, id := range ids {
		if err := change(id); err != nil {
			deadError(w, err)
			return
		}
	}
	answer(w, http.StatusOK, map[string]int{"changed": len(ids)})
}

func deadError(w http.ResponseWriter, err error) {
	status := http.StatusInternalServerError
	if errors.Is(err, uplink.ErrNoDeadLetter) {
		status = http.StatusNotFound
	}
	answer(w, status, apiError{err.Error()})
}
