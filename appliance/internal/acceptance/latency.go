package acceptance

import (
	"math"
	"slices"
	"time"

	"outstation/web"
)

// Latency is how long something took.
type Latency struct {
	Name  string  `json:"name"`
	What  string  `json:"what"`
	Count uint64  `json:"count"`
	P50MS float64 `json:"p50_ms"`
	P99MS float64 `json:"p99_ms"`
	// AtMost says that the two are upper bounds: those of buckets.
	AtMost bool `json:"at_most"`
}

// measured is the latency of single durations.
func measured(name, what string, all []time.Duration) Latency {
	l := Latency{Name: name, What: what, Count: uint64(len(all))}
	if len(all) == 0 {
		return l
	}
	slices.Sort(all)
	at := func(p float64) float64 { return ms(all[int(math.Ceil(p*float64(len(all))))-1]) }
	l.P50MS, l.P99MS = at(0.50), at(0.99)
	return l
}

// bucketed is the latency of histograms with the same buckets.
func bucketed(name, what string, all []web.Histogram) Latency {
	l := Latency{Name: name, What: what, AtMost: true}
	var upto []float64
	var counts []uint64
	for _, h := range all {
		l.Count += h.Count
		for i, b := range h.Buckets {
			if i == len(upto) {
				upto, counts = append(upto, b.LeS), append(counts, 0)
			}
			counts[i] += b.Count
		}
	}
	if l.Count == 0 || len(upto) == 0 {
		return l
	}
	at := func(p float64) float64 {
		for i, n := range counts {
			if float64(n) >= p*float64(l.Count) {
				return upto[i] * 1000
			}
		}
		return upto[len(upto)-1] * 1000 // what is beyond has no bound
	}
	l.P50MS, l.P99MS = at(0.50), at(0.99)
	return l
}

func ms(d time.Duration) float64 { return math.Round(float64(d)/float64(time.Millisecond)*10) / 10 }

// latencies are the columns from the frame to the centre.
func latencies(arrivals []arrival, faults []Fault, start time.Time, lives []*life) []Latency {
	var inferred, arrived, calm []time.Duration
	for _, a := range arrivals {
		inferred = append(inferred, a.inferred)
		arrived = append(arrived, a.arrived)
		if !disturbed(a.captured.Sub(start), faults) {
			calm = append(calm, a.arrived)
		}
	}
	var commits, pubacks []web.Histogram
	for _, l := range lives {
		commits = append(commits, l.last.Queue.Commit)
		pubacks = append(pubacks, l.last.Uplink.Puback)
	}
	return []Latency{
		measured("capture_to_inferred", "capture → inferred: from the arrival of the frame to the end of the model's run, of each event", inferred),
		bucketed("stored", "stored: one group commit to disk with its fsync; an event waits for the next one and for that", commits),
		bucketed("acknowledged", "acknowledged: from PUBLISH to the centre's PUBACK, of every record of the queue", pubacks),
		measured("capture_to_centre_calm", "capture → centre, where nothing disturbed: to the arrival at a subscriber of the centre, an upper bound of acknowledged", calm),
		measured("capture_to_centre", "capture → centre, all: the same with the time that outages and kills took", arrived),
	}
}

// disturbed reports whether a moment falls into a fault or the recovery from
// it.
func disturbed(at time.Duration, faults []Fault) bool {
	s := at.Seconds()
	for _, f := range faults {
		if s >= f.FromS-1 && (s <= f.RecoveredS || f.RecoveredS == 0) {
			return true
		}
	}
	return false
}
