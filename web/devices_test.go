package web

import (
	"cmp"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

// devicesServer has devices with names that nobody would choose, and an API that refuses to let "stays" go.
func devicesServer(calls *[]string) *Server {
	list := ClientList{
		Clients: []Client{{ID: "line 1/plc?<b>", User: "press", Remote: "10.0.0.4:5", Listener: "tcp :1883", Protocol: "5", Since: noon.Add(-time.Hour), Subscriptions: 3, Muted: 1}},
		Away:    []Away{{ID: "sleeps", Since: noon.Add(-time.Hour), Until: noon.Add(time.Hour), Owed: 7, OwedBytes: 2048}, {ID: "for-ever", Since: noon}},
		Bans:    []Ban{{ID: "noisy", Until: noon.Add(time.Minute)}},
	}
	for i := range maxListed + 4 {
		list.Clients = append(list.Clients, Client{ID: fmt.Sprintf("dev-%03d", i)})
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /api/v1/clients/{id}/{what}", func(w http.ResponseWriter, r *http.Request) {
		*calls = append(*calls, fmt.Sprintf("%s %s for=%s", r.PathValue("what"), r.PathValue("id"), r.FormValue("for")))
		if r.PathValue("id") == "stays" {
			w.WriteHeader(http.StatusNotFound)
			fmt.Fprint(w, `{"error":"no such client is connected"}`)
			return
		}
		fmt.Fprint(w, `{"done":true}`)
	})
	return New(Options{Snapshot: line, Clients: func() ClientList { return list }, API: mux})
}

func TestAllDevicesAreListed(t *testing.T) {
	var calls []string
	s := devicesServer(&calls)
	got := askFrom(t, s, "127.0.0.1:9", "GET", "/devices", "")
	for _, want := range []string{
		`action="/api/v1/clients/line%201%2Fplc%3F%3Cb%3E/disconnect"`, `action="/api/v1/clients/noisy/unban"`, `action="/api/v1/clients/sleeps/ban"`,
		"line 1/plc?&lt;b&gt;", "1 muted", "dev-198", "and 5 more", "for 1 h", "kept until 2025-03-04 13:00:00", "kept until it comes back", "2.0 KiB",
	} {
		if !strings.Contains(strings.NewReplacer("\u00a0", " ", "\u202f", " ").Replace(got.body), want) {
			t.Errorf("%q is not in the page", want)
		}
	}
	if got.code != 200 || strings.Contains(got.body, "dev-199") || strings.Contains(got.body, "no login") {
		t.Errorf("got %d, expected the first %d devices", got.code, maxListed)
	}
	if far := askFrom(t, s, "192.0.2.1:9", "GET", "/devices", ""); far.code != 200 || strings.Contains(far.body, "<button") || !strings.Contains(far.body, "no login") {
		t.Errorf("from elsewhere: got %d, expected no buttons", far.code)
	}
	if !strings.Contains(ask(t, s, "GET", "/", "").body, `href="/devices"`) || strings.Contains(ask(t, serverOf(line()), "GET", "/", "").body, `href="/devices"`) {
		t.Error("the page does not lead there, or leads to what is not there")
	}
	if got := ask(t, serverOf(line()), "GET", "/devices", ""); got.code != 404 {
		t.Errorf("without devices: got %d", got.code)
	}
}

func TestButtonsOfDevices(t *testing.T) {
	const form, browser = "application/x-www-form-urlencoded", "text/html,application/xhtml+xml,*/*;q=0.8"
	var calls []string
	s := devicesServer(&calls)
	for _, c := range []struct {
		path, accept, from, site string
		code                     int
		says                     string
	}{
		{"noisy/ban", browser, "127.0.0.1:9", "", 303, ""},
		{"line%201%2Fplc/disconnect", browser, "127.0.0.1:9", "", 303, ""},
		{"stays/disconnect", browser, "127.0.0.1:9", "", 404, `role="alert">no such client is connected`},
		{"stays/disconnect", "application/json", "127.0.0.1:9", "", 404, `{"error":"no such`},
		{"noisy/ban", "", "127.0.0.1:9", "", 200, `{"done":true}`},
		{"noisy/ban", browser, "192.0.2.1:9", "", 403, "from this machine only"},
		{"noisy/ban", browser, "127.0.0.1:9", "cross-site", 403, ""},
	} {
		got := askFrom(t, s, c.from, "POST", "/api/v1/clients/"+c.path, "for=1h", "Content-Type", form, "Accept", c.accept, "Sec-Fetch-Site", cmp.Or(c.site, "same-origin"))
		if got.code != c.code || !strings.Contains(got.body, c.says) {
			t.Errorf("%+v: got %d %.200s", c, got.code, got.body)
		}
		if got.code == 303 && got.header.Get("Location") != "/devices" {
			t.Errorf("%s: got Location %q", c.path, got.header.Get("Location"))
		}
	}
	want := []string{"ban noisy for=1h", "disconnect line 1/plc for=1h", "disconnect stays for=1h", "disconnect stays for=1h", "ban noisy for=1h"}
	if strings.Join(calls, "\n") != strings.Join(want, "\n") {
		t.Errorf("got calls %q, expected %q", calls, want)
	}
}
