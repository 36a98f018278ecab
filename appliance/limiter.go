package main

import (
	"sync"
	"time"
)

// limiter lets each of many names do something at a rate, with a burst. It is
// safe for concurrent use.
type limiter struct {
	perSecond float64
	burst     float64
	now       func() time.Time

	mu   sync.Mutex
	used map[string]bucket
}

// bucket is what a name has used up.
type bucket struct {
	used float64
	at   time.Time
}

// maxBuckets bounds the names that are remembered; beyond it the forgotten are
// those that would be allowed to, and then all.
const maxBuckets = 4096

func newLimiter(perSecond, burst float64) *limiter {
	return &limiter{perSecond: perSecond, burst: burst, now: time.Now, used: map[string]bucket{}}
}

// take uses up one of the name's turns. wait is how long the next one takes to
// come back where there is none left, and nothing was taken; else it is 0.
func (l *limiter) take(name string) (wait time.Duration) { return l.use(name, 1) }

// left is take without taking.
func (l *limiter) left(name string) (wait time.Duration) { return l.use(name, 0) }

func (l *limiter) use(name string, n float64) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	used := l.level(l.used[name], now)
	if over := used + 1 - l.burst; over > 0 {
		return time.Duration(over / l.perSecond * float64(time.Second))
	}
	if n == 0 {
		return 0
	}
	if len(l.used) >= maxBuckets {
		l.forget(now)
	}
	l.used[name] = bucket{used + n, now}
	return 0
}

func (l *limiter) level(b bucket, now time.Time) float64 {
	return max(0, b.used-now.Sub(b.at).Seconds()*l.perSecond)
}

// forget drops who has all turns back; mu is held.
func (l *limiter) forget(now time.Time) {
	for name, b := range l.used {
		if l.level(b, now) == 0 {
			delete(l.used, name)
		}
	}
	if len(l.used) >= maxBuckets {
		clear(l.used)
	}
}
