package main

import (
	"context"
	"errors"
	"net/http"
	"testing"
)

// TestAHandlerIsAwaited gives up a request that a handler is still answering:
// the store below it may be closed only when the handler has returned.
func TestAHandlerIsAwaited(t *testing.T) {
	began, returned := make(chan struct{}), false
	h := handlerTransport{handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(began)
		<-r.Context().Done()
		_, _ = w.Write([]byte("nobody reads this"))
		returned = true
	})}
	ctx, cancel := context.WithCancel(context.Background())
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://queue/", nil)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		<-began
		cancel()
	}()
	resp, err := h.RoundTrip(r)
	if err == nil {
		_ = resp.Body.Close() // the handler was quicker
	} else if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, expected %v", err, context.Canceled)
	}
	h.serving.Wait()
	if !returned {
		t.Error("the handler has not returned")
	}
}
