package web

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestServerLife(t *testing.T) {
	s := New(Options{Listen: "127.0.0.1:0", Snapshot: line})
	if s.Addr() != nil {
		t.Errorf("Addr before Listen: got %v", s.Addr())
	}
	if err := s.Listen(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx) }()

	client := http.Client{Timeout: 10 * time.Second}
	resp, err := client.Get("http://" + s.Addr().String() + "/")
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if err := resp.Body.Close(); err != nil {
		t.Error(err)
	}
	if !strings.Contains(string(body), "press-7") {
		t.Errorf("got %s", body)
	}
	cancel()
	if err := <-served; err != nil {
		t.Errorf("Serve: %v", err)
	}
	for range 2 {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
	if _, err := net.Dial("tcp", s.Addr().String()); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("after Close: got %v, want connection refused", err)
	}
}

func TestCloseEndsServe(t *testing.T) {
	s := New(Options{Listen: "127.0.0.1:0", Snapshot: line})
	if err := s.Listen(); err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(t.Context()) }()
	if err := s.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	if err := <-served; err != nil {
		t.Errorf("Serve: %v", err)
	}
}

func TestServeReportsABrokenListener(t *testing.T) {
	s := New(Options{Listen: "127.0.0.1:0", Snapshot: line})
	if err := s.Listen(); err != nil {
		t.Fatal(err)
	}
	if err := s.listener.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Serve(t.Context()); !errors.Is(err, net.ErrClosed) {
		t.Errorf("got %v, want that the listener is closed", err)
	}
}

func TestWrongUse(t *testing.T) {
	if err := New(Options{Listen: "127.0.0.1:0"}).Listen(); err == nil {
		t.Error("Listen without a snapshot: got no error")
	}
	if err := New(Options{Snapshot: line}).Serve(t.Context()); err == nil {
		t.Error("Serve before Listen: got no error")
	}
	if err := New(Options{Snapshot: line}).Close(); err != nil {
		t.Errorf("Close before Listen: %v", err)
	}
	err := New(Options{Listen: "127.0.0.1:99999", Snapshot: line}).Listen()
	if err == nil || !strings.Contains(err.Error(), `listen on "127.0.0.1:99999"`) {
		t.Errorf("an impossible port: got %v", err)
	}
}
