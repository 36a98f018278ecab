package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"outstation/uplink/wire"
)

// addToken makes a token for an appliance.
func addToken(t testing.TB, cfg Config, name string) string {
	t.Helper()
	secret, tok, err := newToken(name, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	tokens, err := readTokens(cfg.tokensFile())
	if err != nil {
		t.Fatal(err)
	}
	if err := writeTokens(cfg.tokensFile(), append(tokens, tok)); err != nil {
		t.Fatal(err)
	}
	return secret
}

// post returns the status, the body and Retry-After of an answer.
func post(t testing.TB, cfg Config, path, secret, contentType, body string) (status int, answer, retry string) {
	t.Helper()
	req, err := http.NewRequest(http.MethodPost, "http://"+cfg.Web.Listen+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if secret != "" {
		req.Header.Set("Authorization", "Bearer "+secret)
	}
	req.Header.Set("Content-Type", contentType)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b), resp.Header.Get("Retry-After")
}

// TestPosts posts what can be mended and what cannot.
func TestPosts(t *testing.T) {
	centre := startMosquitto(t)
	seen := consume(t, centre.URL(), "events/#")
	cfg := testConfig(t, t.TempDir(), centre.URL())
	secret := addToken(t, cfg, "panel")
	startApp(t, cfg)
	const good = `{"source":"scada","event_type":"alarm","subject":"Pump 3","payload":{"bar":9}}`
	const id = "0190b3c4-8f6e-4a3b-9c2d-5e6f7a8b9c0d"
	for _, c := range []struct {
		path, secret, body string
		status             int
		says               string
	}{
		{"/api/v1/events", secret, good, 202, `"event_type": "alarm"`},
		{"/api/v1/events", secret, strings.Replace(good, "{", `{"event_id":"`+id+`","idempotency_key":"mine","timestamp":1795224599,`, 1), 202, `"idempotency_key": "mine"`},
		{"/api/v1/events", secret, strings.Replace(good, "{", `{"timestamp":"2026-11-21T01:00:00Z",`, 1), 202, "-2026-11-21T01:00:00Z"},
		{"/api/v1/events", "", good, 401, "token"},
		{"/api/v1/events", secret + "x", good, 401, "token"},
		{"/api/v1/events?token=" + secret, "", good, 401, "token"},
		{"/api/v1/events", secret, `{`, 400, "not JSON: it ends before its time"},
		{"/api/v1/events", secret, `[]`, 400, "expected one JSON object, got an array"},
		{"/api/v1/events", secret, ``, 400, "not JSON: the message is empty"},
		{"/api/v1/events", secret, `{"a" 1}`, 400, "not JSON: '1' does not belong there, at byte 6"},
		{"/api/v1/events", secret, `{"source":7}`, 400, "source: expected a text"},
		{"/api/v1/events", secret, good + good, 400, "more follows"},
		{"/api/v1/events", secret, strings.Replace(good, "subject", "subjekt", 1), 400, "subjekt"},
		{"/api/v1/events", secret, strings.Replace(good, "Pump 3", "", 1), 400, "subject"},
		{"/api/v1/events", secret, strings.Replace(good, "scada", "SCADA", 1), 400, "source"},
		{"/api/v1/events", secret, strings.Replace(good, "scada", "outstation", 1), 400, "source"},
		{"/api/v1/events", secret, strings.Replace(good, "alarm", "a/b", 1), 400, "event_type"},
		{"/api/v1/events", secret, strings.Replace(good, "{", `{"timestamp":"soon",`, 1), 400, "timestamp"},
		{"/api/v1/events", secret, strings.Replace(good, "{", `{"event_id":"7",`, 1), 400, "event_id"},
		{"/api/v1/events", secret, strings.Repeat(" ", maxPostBytes) + good, 413, "at most"},
		{"/hooks/panel", secret, "zone=1", 202, `"event_type": "unparsed"`},
		{"/hooks/panel?token=" + secret, "", `{"a":1}`, 202, `"event_type": "webhook"`},
		{"/hooks/panel", "", `{"a":1}`, 401, "token"},
		{"/hooks/Panel%20A", secret, `{"a":1}`, 400, "source"},
		{"/hooks/panel", secret, strings.Repeat("x", maxPostBytes-1), 413, "base64"},
		{"/hooks/panel", secret, strings.Repeat("x", maxPostBytes+1), 413, "at most"},
	} {
		status, body, _ := post(t, cfg, c.path, c.secret, "application/json", c.body)
		if status != c.status || !strings.Contains(body, c.says) {
			t.Errorf("%s %.60s: got %d %s, expected %d and %q", strings.Split(c.path, "?")[0], c.body, status, body, c.status, c.says)
		}
		if !json.Valid([]byte(body)) {
			t.Errorf("not JSON: %s", body)
		}
	}
	eventually(t, "the events at the centre", func() bool { return len(seen.on("scada/alarm")) == 3 && len(seen.on("panel/webhook")) == 1 })
	if _, body, _ := post(t, cfg, "/hooks/panel?token="+secret+"&zone=7", "", "", ""); !strings.Contains(body, "webhook") {
		t.Error(body)
	}
	eventually(t, "the query at the centre", func() bool { return len(seen.on("panel/webhook")) == 2 })
	hooks := seen.envelopes(t, "panel/webhook")
	if got := string(hooks[1].Payload); got != `{"zone":"7"}` {
		t.Errorf("got the payload %s", got)
	}
	alarms := seen.envelopes(t, "scada/alarm")
	if e := alarms[1]; e.EventID != id || e.IdempotencyKey != "mine" || e.Timestamp != wire.At(time.Unix(1795224599, 0)) || string(e.Payload) != `{"bar":9}` {
		t.Errorf("got %+v", e)
	}
	if !strings.HasPrefix(alarms[0].IdempotencyKey, "site-1-scada-pump-3-") {
		t.Errorf("got the key %s", alarms[0].IdempotencyKey)
	}
}

// TestAPostIsAnsweredAfterTheDisk looks at when an answer can leave.
func TestAPostIsAnsweredAfterTheDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := newIngest(nil, "")
		accepted := make(chan func(error), 1)
		full := errors.New("full")
		offers := 0
		store := func(d func(error)) error {
			if offers++; offers < 3 {
				return full
			}
			accepted <- d
			return nil
		}
		answers := make(chan *refusedPost, 1)
		begin := func() (done func(error)) {
			go func() { answers <- in.store(t.Context(), store) }()
			done = <-accepted
			synctest.Wait()
			return done
		}
		done := begin()
		select {
		case a := <-answers:
			t.Fatalf("answered %v before the event was durable", a)
		default:
		}
		done(nil)
		if a := <-answers; a != nil || offers != 3 {
			t.Errorf("got %v after %d offers", a, offers)
		}

		begin()(full)
		if a := <-answers; a == nil || a.status != 503 || a.wait == 0 {
			t.Errorf("got %v for an event that did not become durable", a)
		}

		begin()
		if a := <-answers; a == nil || a.status != 503 {
			t.Errorf("got %v when the disk never answers", a)
		}
		offers = -1 << 20
		if a := in.store(t.Context(), store); a == nil || a.status != 503 {
			t.Errorf("got %v from a full queue", a)
		}
	})
}

// TestTokensChangeWhileTheApplianceRuns adds, breaks and removes tokens.
func TestTokensChangeWhileTheApplianceRuns(t *testing.T) {
	cfg := testConfig(t, t.TempDir(), "tcp://127.0.0.1:1")
	a := startApp(t, cfg)
	status := func(secret string) int {
		s, _, _ := post(t, cfg, "/hooks/panel", secret, "", "{}")
		return s
	}
	if got := status("x"); got != 401 {
		t.Errorf("got %d without any token", got)
	}
	one, two := addToken(t, cfg, "one"), addToken(t, cfg, "two")
	if got := []int{status(one), status(two)}; got[0] != 202 || got[1] != 202 {
		t.Errorf("got %v for good tokens", got)
	}
	text, err := os.ReadFile(cfg.tokensFile())
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), one) || strings.Contains(string(text), tokenPrefix) {
		t.Error("the file holds a token")
	}
	if info, err := os.Stat(cfg.tokensFile()); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file of tokens: %v, %v", info.Mode(), err)
	}
	if err := os.WriteFile(cfg.tokensFile(), []byte("one nonsense 2026-11-21T01:00:00Z\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := status(one); got != 503 {
		t.Errorf("got %d with a broken file", got)
	}
	if c := webCheck(a.facts()); c.State != wire.Impaired || !strings.Contains(c.Detail, "tokens:1: ") {
		t.Errorf("health says %+v", c)
	}
	if err := os.WriteFile(cfg.tokensFile(), text, 0o600); err != nil {
		t.Fatal(err)
	}
	tokens, err := readTokens(cfg.tokensFile())
	if err != nil {
		t.Fatal(err)
	}
	rest, found := without(tokens, "one")
	if err := writeTokens(cfg.tokensFile(), rest); err != nil || !found {
		t.Fatal(err)
	}
	if got := []int{status(one), status(two)}; got[0] != 401 || got[1] != 202 {
		t.Errorf("got %v after one was removed", got)
	}
}

// TestGuessingTokensIsSlow tries wrong tokens until the address has to wait,
// with a good token too.
func TestGuessingTokensIsSlow(t *testing.T) {
	cfg := testConfig(t, t.TempDir(), "tcp://127.0.0.1:1")
	secret := addToken(t, cfg, "panel")
	startApp(t, cfg)
	for i := range wrongBurst {
		if status, _, _ := post(t, cfg, "/hooks/x", fmt.Sprint("guess", i), "", "{}"); status != 401 {
			t.Fatalf("guess %d: got %d", i, status)
		}
	}
	if status, _, retry := post(t, cfg, "/hooks/x", secret, "", "{}"); status != 429 || retry == "" {
		t.Errorf("got %d, Retry-After %q after %d guesses", status, retry, wrongBurst)
	}
}

func TestLimiter(t *testing.T) {
	now := time.Unix(1000, 0)
	l := newLimiter(2, 3)
	l.now = func() time.Time { return now }
	for range 3 {
		if l.left("a") != 0 || l.take("a") != 0 {
			t.Fatal("refused within the burst")
		}
	}
	if got := l.take("a"); got != 500*time.Millisecond {
		t.Errorf("the wait is %v, expected 500ms", got)
	}
	if l.take("b") != 0 {
		t.Error("a name is limited by another")
	}
	now = now.Add(500 * time.Millisecond)
	if l.take("a") != 0 || l.take("a") == 0 {
		t.Error("expected one turn after half a second")
	}
	for i := range 3 * maxBuckets {
		l.take(fmt.Sprint(i))
	}
	if len(l.used) > maxBuckets {
		t.Errorf("%d names are remembered", len(l.used))
	}
}
