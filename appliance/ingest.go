package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"outstation/appliance/internal/forward"
	"outstation/broker"
	"outstation/web"
)

// Bounds of what machines post.
const (
	maxPostBytes = 1 << 20
	// maxPosting bounds the bodies that are worked on at once, and with them the
	// memory: a body is held a few times over.
	maxPosting = 32
	// postsPerSecond and postsBurst bound each token.
	postsPerSecond, postsBurst = 200, 400
	// wrongPerSecond and wrongBurst bound the wrong tokens of each address.
	wrongPerSecond, wrongBurst = 0.2, 10
	// spaceWait is how long a post waits for space in the queue, and storeWait
	// for the disk after that.
	spaceWait = time.Second
	storeWait = 10 * time.Second
	retryPost = 20 * time.Millisecond
	// comeAgain is what a sender that was refused is asked to wait.
	comeAgain = 5 * time.Second
)

// ingest takes events from machines on the site's network that do not speak
// MQTT. It answers 202 only when the event is durable.
type ingest struct {
	forward  *forwarder
	tokens   *tokenFile
	accepted *limiter // by token
	wrong    *limiter // by address: wrong tokens
	slots    chan struct{}

	mu       sync.Mutex
	answered map[int]uint64 // by status
}

func newIngest(f *forwarder, tokensFile string) *ingest {
	return &ingest{
		forward: f, tokens: &tokenFile{path: tokensFile}, slots: make(chan struct{}, maxPosting), answered: map[int]uint64{},
		accepted: newLimiter(postsPerSecond, postsBurst), wrong: newLimiter(wrongPerSecond, wrongBurst),
	}
}

// handler serves POST /api/v1/events and POST /hooks/{source}.
func (in *ingest) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /api/v1/events", in.serve(false, func(_ *http.Request, body []byte) (forward.Event, error) {
		return in.forward.engine.Load().Posted(body, time.Now())
	}))
	mux.HandleFunc("POST /hooks/{source}", in.serve(true, in.webhook))
	return mux
}

// webhook makes an event of any body.
func (in *ingest) webhook(r *http.Request, body []byte) (forward.Event, error) {
	source := r.PathValue("source")
	if err := forward.CheckSource(source); err != nil {
		return forward.Event{}, fmt.Errorf("source: %w", err)
	}
	query := r.URL.Query()
	query.Del("token")
	ev, err := in.forward.engine.Load().Webhook(forward.Webhook{
		Source: source, From: addressOf(r), ContentType: r.Header.Get("Content-Type"), Query: query, Body: body, Received: time.Now(),
	})
	if err == nil && ev.Truncated {
		err = fmt.Errorf("%w: what cannot be read is kept in base64, and a body of %d bytes has no room in it; it cannot be read since: %s", forward.ErrTooLarge, len(body), ev.Unparsed)
	}
	return ev, err
}

// refusedPost is an answer other than 202.
type refusedPost struct {
	status int
	wait   time.Duration // for Retry-After; 0 for none
	reason string
}

func refusePost(status int, format string, args ...any) *refusedPost {
	return &refusedPost{status: status, reason: fmt.Sprintf(format, args...)}
}

// acceptedPost is the body of a 202.
type acceptedPost struct {
	EventID        string `json:"event_id"`
	IdempotencyKey string `json:"idempotency_key"`
	EventType      string `json:"event_type"`
}

// serve answers posts of which read makes events. inURL permits the token as a
// query parameter: alarm panels cannot set headers.
func (in *ingest) serve(inURL bool, read func(*http.Request, []byte) (forward.Event, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		ev, refused := in.post(w, r, inURL, read)
		if refused == nil {
			in.count(http.StatusAccepted)
			answer(w, http.StatusAccepted, acceptedPost{ev.EventID, ev.IdempotencyKey, ev.EventType})
			return
		}
		in.count(refused.status)
		if refused.wait > 0 {
			w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(refused.wait.Seconds()))))
		}
		if refused.status == http.StatusUnauthorized {
			w.Header().Set("WWW-Authenticate", "Bearer")
		}
		answer(w, refused.status, apiError{refused.reason})
	}
}

func (in *ingest) post(w http.ResponseWriter, r *http.Request, inURL bool, read func(*http.Request, []byte) (forward.Event, error)) (ev forward.Event, refused *refusedPost) {
	if refused = in.admit(r, inURL); refused != nil {
		return ev, refused
	}
	select {
	case in.slots <- struct{}{}:
		defer func() { <-in.slots }()
	default:
		return ev, &refusedPost{http.StatusServiceUnavailable, time.Second, "too many posts at once"}
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxPostBytes))
	if err != nil {
		if errors.As(err, new(*http.MaxBytesError)) {
			return ev, refusePost(http.StatusRequestEntityTooLarge, "expected a body of at most %d bytes", maxPostBytes)
		}
		return ev, refusePost(http.StatusBadRequest, "the body did not arrive: %v", err)
	}
	if ev, err = read(r, body); err != nil {
		status := http.StatusBadRequest
		if errors.Is(err, forward.ErrTooLarge) {
			status = http.StatusRequestEntityTooLarge
		}
		return ev, refusePost(status, "%v", err)
	}
	return ev, in.store(r.Context(), in.forward.offer(ev))
}

// admit looks at who posts.
func (in *ingest) admit(r *http.Request, inURL bool) *refusedPost {
	from := addressOf(r)
	if wait := in.wrong.left(from); wait > 0 {
		return &refusedPost{http.StatusTooManyRequests, wait, "too many wrong tokens from this address"}
	}
	secret, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if secret == "" && inURL {
		secret = r.URL.Query().Get("token")
	}
	name, some, err := in.tokens.check(secret)
	switch {
	case err != nil:
		return &refusedPost{http.StatusServiceUnavailable, comeAgain, "the appliance cannot read its tokens; its health says why"}
	case !some:
		return refusePost(http.StatusUnauthorized, "no token is set up; on the appliance, run: outstation token add")
	case name == "":
		in.wrong.take(from)
		return refusePost(http.StatusUnauthorized, "expected a token that the appliance knows, as Authorization: Bearer")
	}
	if wait := in.accepted.take(name); wait > 0 {
		return &refusedPost{http.StatusTooManyRequests, wait, fmt.Sprintf("expected at most %d posts a second with one token", postsPerSecond)}
	}
	return nil
}

// store waits until an event is durable.
func (in *ingest) store(ctx context.Context, store broker.Store) *refusedPost {
	stored := make(chan error, 1)
	err := offerUntil(ctx, store, func(err error) { stored <- err })
	if err != nil {
		return &refusedPost{http.StatusServiceUnavailable, comeAgain, "the event was not stored: " + err.Error()}
	}
	timeout := time.NewTimer(storeWait)
	defer timeout.Stop()
	select {
	case err = <-stored:
	case <-timeout.C:
		err = fmt.Errorf("the disk did not answer within %v", storeWait)
	case <-ctx.Done():
		err = ctx.Err() // whoever asked is gone
	}
	if err != nil {
		return &refusedPost{http.StatusServiceUnavailable, comeAgain, "the event was not stored: " + err.Error()}
	}
	return nil
}

// offerUntil offers an event for a while: space may come back.
func offerUntil(ctx context.Context, store broker.Store, done func(error)) error {
	deadline := time.Now().Add(spaceWait)
	for {
		err := store(done)
		if err == nil || time.Now().After(deadline) {
			return err
		}
		select {
		case <-time.After(retryPost):
		case <-ctx.Done():
			return err
		}
	}
}

func (in *ingest) count(status int) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.answered[status]++
}

// answers counts the answers since the start.
func (in *ingest) answers() []web.PostAnswer {
	in.mu.Lock()
	defer in.mu.Unlock()
	var out []web.PostAnswer
	for _, status := range slices.Sorted(maps.Keys(in.answered)) {
		out = append(out, web.PostAnswer{Status: status, Count: in.answered[status]})
	}
	return out
}

// addressOf is the sender's IP address.
func addressOf(r *http.Request) string {
	a, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return "unknown"
	}
	return a.Addr().Unmap().WithZone("").String()
}
