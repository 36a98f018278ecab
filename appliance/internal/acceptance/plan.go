package acceptance

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// Kinds of faults.
const (
	Outage = "outage" // the way to the centre is cut
	Kill   = "kill"   // the process is ended by SIGKILL
)

// fault is one thing that is done to the appliance, as it is planned.
type fault struct {
	kind string
	at   time.Duration // since the start of the run
	long time.Duration // of an outage
}

const (
	// faults happen in this part of a run, so that there is a whole start and
	// time to recover at the end.
	firstFault, lastFault = 0.1, 0.8
	// perFault is what each takes at least.
	perFault   = 10 * time.Second
	longest    = time.Minute // outage
	inOutage   = 0.5         // of an outage is over when the first kill comes
	leastShare = 0.2         // of its slot that an outage takes
	mostShare  = 0.5
)

// Check says what is impossible about a run.
func Check(length time.Duration, outages, kills int) error {
	if outages < 0 || kills < 0 {
		return fmt.Errorf("got %d outages and %d kills, expected 0 or more of each", outages, kills)
	}
	window := time.Duration((lastFault - firstFault) * float64(length))
	if need := time.Duration(outages+kills) * perFault; need > window {
		least := time.Duration(float64(need) / (lastFault - firstFault)).Round(time.Second)
		return fmt.Errorf("%d outages and %d kills need a run of at least %v, got %v", outages, kills, least, length)
	}
	return nil
}

// plan spreads faults over a run. The first kill falls into the first outage:
// what it leaves on disk is all that there is.
func plan(seed uint64, length time.Duration, outages, kills int) []fault {
	r := rand.New(rand.NewPCG(seed, 0))
	begin := time.Duration(firstFault * float64(length))
	window := time.Duration((lastFault - firstFault) * float64(length))
	var list []fault
	for i := range outages {
		slot := window / time.Duration(outages)
		share := leastShare + (mostShare-leastShare)*r.Float64()
		long := min(time.Duration(share*float64(slot)), longest)
		at := begin + time.Duration(i)*slot + time.Duration(r.Float64()*float64(slot-long))
		list = append(list, fault{Outage, at, long})
	}
	for i := range kills {
		slot := window / time.Duration(kills)
		at := begin + time.Duration(i)*slot + time.Duration(r.Float64()*float64(slot))
		if i == 0 && outages > 0 {
			at = list[0].at + time.Duration(inOutage*float64(list[0].long))
		}
		list = append(list, fault{kind: Kill, at: at})
	}
	slices.SortStableFunc(list, func(a, b fault) int { return int(a.at - b.at) })
	return list
}
