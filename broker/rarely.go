package broker

import (
	"sync"
	"sync/atomic"
	"time"
)

// warnEvery is the least time between warnings of what devices do wrong.
const warnEvery = time.Minute

// rarely lets one through in a while.
type rarely struct{ last atomic.Int64 }

func (r *rarely) due(now time.Time) bool {
	last := r.last.Load()
	return now.Unix()-last >= int64(warnEvery/time.Second) && r.last.CompareAndSwap(last, now.Unix())
}

// maxWarned bounds of how many the log speaks in a while.
const maxWarned = 100

// rarelyEach lets one of each name through in a while, and of all names
// beyond maxWarned together one.
type rarelyEach struct {
	mu     sync.Mutex
	last   map[string]time.Time
	others rarely
}

func (r *rarelyEach) due(name string, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if last, known := r.last[name]; known && now.Sub(last) < warnEvery {
		return false
	}
	if len(r.last) >= maxWarned {
		for n, last := range r.last {
			if now.Sub(last) >= warnEvery {
				delete(r.last, n)
			}
		}
	}
	if len(r.last) >= maxWarned {
		return r.others.due(now)
	}
	if r.last == nil {
		r.last = map[string]time.Time{}
	}
	r.last[name] = now
	return true
}

// shown is a name that anybody may have chosen, for the log.
func shown(name string) string {
	const most = 60
	if r := []rune(name); len(r) > most {
		return string(r[:most]) + "…"
	}
	return name
}
