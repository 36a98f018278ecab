package main

import (
	"errors"
	"fmt"
	"math"
	"net/http"
	"strings"
	"time"

	"outstation/broker"
	"outstation/uplink"
	"outstation/web"
)

// banPrefix begins the notes in which the queue keeps who is banned; the rest
// is the client id, and the value the Unix time until which it is.
const banPrefix = "broker/ban/"

// defaultBan is how long a client is kept out if nobody says.
const defaultBan = "1h"

// maxClientID bounds a client id in a note, in bytes.
const maxClientID = 1024

// storedBans are those that the queue keeps. What is over is forgotten.
func (a *app) storedBans() ([]broker.Ban, error) {
	var out []broker.Ban
	for key, until := range a.queue.Notes(banPrefix) {
		ban := broker.Ban{ID: strings.TrimPrefix(key, banPrefix), Until: time.Unix(int64(min(until, math.MaxInt64)), 0)}
		if ban.Until.After(time.Now()) {
			out = append(out, ban)
		} else if err := a.queue.DropNote(key); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (a *app) clientCalls(mux *http.ServeMux) {
	mux.HandleFunc("GET /api/v1/clients", a.serveClients)
	mux.HandleFunc("POST /api/v1/clients/{id}/disconnect", a.disconnectClient)
	mux.HandleFunc("POST /api/v1/clients/{id}/ban", a.banClient)
	mux.HandleFunc("POST /api/v1/clients/{id}/unban", a.unbanClient)
	mux.HandleFunc("POST /api/v1/clients/{id}/forget", a.forgetClient)
}

// clientList is what GET /api/v1/clients answers.
func (a *app) clientList() web.ClientList {
	out := web.ClientList{Clients: webClients(a.broker.Clients()), Away: []web.Away{}, Bans: []web.Ban{}}
	for _, s := range a.broker.Away() {
		out.Away = append(out.Away, web.Away(s))
	}
	for _, b := range a.broker.Bans() {
		out.Bans = append(out.Bans, web.Ban(b))
	}
	return out
}

func (a *app) serveClients(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, a.clientList())
}

func (a *app) disconnectClient(w http.ResponseWriter, r *http.Request) {
	err := a.broker.Disconnect(r.PathValue("id"))
	switch {
	case errors.Is(err, broker.ErrNoClient):
		answer(w, http.StatusNotFound, apiError{err.Error()})
	case err != nil:
		answer(w, http.StatusInternalServerError, apiError{err.Error()})
	default:
		a.log.Info("a client was disconnected", "client", r.PathValue("id"))
		answer(w, http.StatusOK, map[string]string{"disconnected": r.PathValue("id")})
	}
}

// forgetClient ends a session for good. It is answered before that is durable:
// after a kill in between the session may be there again.
func (a *app) forgetClient(w http.ResponseWriter, r *http.Request) {
	err := a.broker.Forget(r.PathValue("id"))
	switch {
	case errors.Is(err, broker.ErrNoSession):
		answer(w, http.StatusNotFound, apiError{err.Error()})
	case err != nil:
		answer(w, http.StatusConflict, apiError{err.Error()})
	default:
		a.log.Info("a session was forgotten", "client", r.PathValue("id"))
		answer(w, http.StatusOK, map[string]string{"forgotten": r.PathValue("id")})
	}
}

// banClient is answered when the ban holds over restarts.
func (a *app) banClient(w http.ResponseWriter, r *http.Request) {
	id, now := r.PathValue("id"), time.Now()
	span, err := time.ParseDuration(orElse(r.FormValue("for"), defaultBan))
	if err != nil || span < time.Second || len(id) > maxClientID {
		answer(w, http.StatusBadRequest, apiError{fmt.Sprintf("expected for as a time such as 1h, of at least 1s, and a client id of at most %d bytes", maxClientID)})
		return
	}
	ban := broker.Ban{ID: id, Until: now.Add(span).Truncate(time.Second).Add(time.Second)}
	if err := a.broker.CheckBan(ban, now); err != nil {
		answer(w, http.StatusBadRequest, apiError{err.Error()})
		return
	}
	if err := a.queue.SetNote(uplink.Note{Key: banPrefix + id, Value: uint64(ban.Until.Unix())}); err != nil {
		answer(w, http.StatusInternalServerError, apiError{err.Error()})
		return
	}
	if err := a.broker.Ban(ban); err != nil {
		answer(w, http.StatusInternalServerError, apiError{err.Error()})
		return
	}
	a.log.Info("a client was banned", "client", id, "until", ban.Until)
	answer(w, http.StatusOK, web.Ban(ban))
}

func (a *app) unbanClient(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	if err := a.queue.DropNote(banPrefix + id); err != nil {
		answer(w, http.StatusInternalServerError, apiError{err.Error()})
		return
	}
	if !a.broker.Unban(id) {
		answer(w, http.StatusNotFound, apiError{fmt.Sprintf("no client called %q is banned", id)})
		return
	}
	a.log.Info("a client is not banned any more", "client", id)
	answer(w, http.StatusOK, map[string]string{"unbanned": id})
}

// webClients is what the page and the API show.
func webClients(clients []broker.Client) []web.Client {
	out := make([]web.Client, len(clients))
	for i, c := range clients {
		t := c.Traffic
		out[i] = web.Client{
			ID: c.ID, User: c.User, Remote: c.Remote, Listener: c.Listener, Since: c.Since, Protocol: mqttVersion(c.Version),
			KeepAliveS: c.KeepAlive.Seconds(), Subscriptions: c.Subscriptions, Muted: c.Muted, Owed: c.Owed,
			MessagesIn: uint64(t.MessagesIn), MessagesOut: uint64(t.MessagesOut), BytesIn: uint64(t.BytesIn), BytesOut: uint64(t.BytesOut),
			MessagesInPerS: t.MessagesInPerS, MessagesOutPerS: t.MessagesOutPerS, BytesInPerS: t.BytesInPerS, BytesOutPerS: t.BytesOutPerS,
		}
	}
	return out
}

// mqttVersion is how a protocol level is called.
func mqttVersion(level byte) string {
	switch level {
	case 3:
		return "3.1"
	case 4:
		return "3.1.1"
	}
	return fmt.Sprint(level)
}
