package web

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// maxListed bounds each list of the page of devices.
const maxListed = 200

// devicesData is what the template of the page of devices sees.
type devicesData struct {
	DeviceID, Site, Region, Build string
	Now                           time.Time
	Failed                        string // what was asked and did not work
	Steers                        bool   // whoever looks may press buttons

	ClientList
	MoreClients, MoreAway, MoreBans int // that are not shown

	Call func(id, what string) string // address of a call of the API
}

// serveDevices shows all devices. The page does not change by itself: a button must not move away under a finger.
func (s *Server) serveDevices(w http.ResponseWriter, r *http.Request) {
	s.showDevices(w, r, http.StatusOK, "")
}

func (s *Server) showDevices(w http.ResponseWriter, r *http.Request, status int, failed string) {
	snap := s.snapshot()
	data := devicesData{
		DeviceID: snap.DeviceID, Site: snap.Site, Region: snap.Region, Build: s.build, Now: snap.Now,
		Failed: failed, Steers: fromThisMachine(r), ClientList: s.options.Clients(), Call: clientCall,
	}
	data.Clients, data.MoreClients = firstOf(data.Clients)
	data.Away, data.MoreAway = firstOf(data.Away)
	data.Bans, data.MoreBans = firstOf(data.Bans)
	var body bytes.Buffer
	if err := s.page.ExecuteTemplate(&body, "devices.html", data); err != nil {
		s.fail(w, "rendering the devices", err)
		return
	}
	s.write(w, status, "text/html; charset=utf-8", &body)
}

func firstOf[T any](list []T) (first []T, more int) {
	n := min(len(list), maxListed)
	return list[:n], len(list) - n
}

func clientCall(id, what string) string { return "/api/v1/clients/" + url.PathEscape(id) + "/" + what }

// backToDevices lets a browser that pressed a button see the devices again, and what did not work. Others get the answer
// of the API as it is.
func (s *Server) backToDevices(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.options.Clients == nil || !prefersHTML(r) {
			next.ServeHTTP(w, r)
			return
		}
		a := answered{header: http.Header{}, status: http.StatusOK}
		next.ServeHTTP(&a, r)
		if a.status < http.StatusBadRequest {
			http.Redirect(w, r, "/devices", http.StatusSeeOther)
			return
		}
		var f failure
		if err := json.Unmarshal(a.body.Bytes(), &f); err != nil || f.Error == "" {
			f.Error = http.StatusText(a.status)
		}
		s.showDevices(w, r, a.status, f.Error)
	})
}

// prefersHTML tells a browser, which names text/html, from a program.
func prefersHTML(r *http.Request) bool {
	accept := r.Header.Values("Accept")
	return strings.Contains(strings.Join(accept, ","), "text/html") && !prefersJSON(accept)
}

// answered is an answer of the API that is looked at before it goes out.
type answered struct {
	header http.Header
	status int
	body   bytes.Buffer
}

// Header is that of the answer.
func (a *answered) Header() http.Header { return a.header }

// WriteHeader keeps the status.
func (a *answered) WriteHeader(status int) { a.status = status }

// Write keeps the body.
func (a *answered) Write(p []byte) (int, error) { return a.body.Write(p) }
