//go:build !novision

package main

import (
	"bytes"
	"os"
	"strconv"
	"sync/atomic"
	"time"
)

// rssEvery is how often the memory of this process is looked at.
const rssEvery = 10 * time.Millisecond

// rssWatch samples the anonymous resident memory of this process.
type rssWatch struct {
	kib  atomic.Int64 // highest since the last look
	stop chan struct{}
	done chan struct{}
}

func watchRSS() *rssWatch {
	w := &rssWatch{stop: make(chan struct{}), done: make(chan struct{})}
	go func() {
		defer close(w.done)
		tick := time.NewTicker(rssEvery)
		defer tick.Stop()
		for {
			w.sample()
			select {
			case <-tick.C:
			case <-w.stop:
				return
			}
		}
	}()
	return w
}

func (w *rssWatch) sample() {
	for kib := rssAnonKiB(); ; {
		was := w.kib.Load()
		if kib <= was || w.kib.CompareAndSwap(was, kib) {
			return
		}
	}
}

// highest is the highest sample since the last call, in MiB.
func (w *rssWatch) highest() float64 {
	w.sample()
	return float64(w.kib.Swap(0)) / 1024
}

func (w *rssWatch) end() {
	close(w.stop)
	<-w.done
}

// rssAnonKiB is RssAnon of /proc/self/status, or 0 where there is none.
func rssAnonKiB() int64 {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	_, rest, _ := bytes.Cut(status, []byte("RssAnon:"))
	line, _, _ := bytes.Cut(rest, []byte("kB"))
	kib, err := strconv.ParseInt(string(bytes.TrimSpace(line)), 10, 64)
	if err != nil {
		return 0
	}
	return kib
}
