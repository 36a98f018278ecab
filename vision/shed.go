package vision

import (
	"context"
	"math"
	"time"
)

// Priorities of cameras: the higher, the longer a camera is spared when
// inspection has to be shed.
const (
	MinPriority     = 1
	MaxPriority     = 10
	DefaultPriority = 5
)

// Why a camera is inspected less often than it should be.
const (
	ReducedByHeat = "the device is hot"
	ReducedByLoad = "the detector is behind"
)

// ShedOptions says when cameras are inspected less often to spare the device.
type ShedOptions struct {
	// Temperature is the hottest of the device in °C and the sensor's name; ok
	// is false where that is not known. It is called every few seconds by one
	// goroutine. Nil means that it is never known.
	Temperature func() (celsius float64, sensor string, ok bool)
	// Hot is where shedding begins and Cool where it is taken back, in °C,
	// Cool below Hot. 0 and 0 mean never.
	Hot, Cool float64
}

const (
	// shedWindow is how long is looked at before anything is changed.
	shedWindow = 3 * time.Second
	// heatWindow is the same for heat, which follows slowly.
	heatWindow = 9 * time.Second
	// shedStep is what one step leaves of a camera's rate.
	shedStep = 0.7
	// minShedRate is what is never shed, in frames a second, unless a third of
	// StallAfter or BlindAfter is a shorter interval: a camera that is shed
	// still looks, and is not blind.
	minShedRate = 0.1
	// A camera suffers when more than this share of the frames that it wanted
	// inspected were dropped, and at least so many, in each of so many windows.
	// One is not enough: a model is loaded in it, or the machine is busy.
	sufferShare   = 0.1
	sufferLeast   = 2
	sufferWindows = 2
	// Windows without suffering before a step is taken back. After a step back
	// that made a camera suffer again it is twice as many, up to a bound.
	minPatience = 3
	maxPatience = 96
)

// rung is where a camera stands on the way down.
type rung struct {
	priority int
	wanted   float64 // frames a second before the first step; 0 for a camera that cannot be shed now
	floor    float64 // frames a second
	steps    int     // 0: at its own rate
}

func (r rung) rate() float64 {
	return max(min(r.floor, r.wanted), r.wanted*math.Pow(shedStep, float64(r.steps)))
}

// lower takes a step down with the cameras of the lowest priority, below the
// one given, of which any is above its floor. It reports whether there were
// such.
func lower(rungs []*rung, below int) bool {
	lowest := below
	for _, r := range rungs {
		if r.rate() > r.floor {
			lowest = min(lowest, r.priority)
		}
	}
	if lowest == below {
		return false
	}
	for _, r := range rungs {
		if r.priority == lowest && r.rate() > r.floor {
			r.steps++
		}
	}
	return true
}

// raise takes a step back with the cameras of the highest priority of which
// any is reduced. It reports whether there were such.
func raise(rungs []*rung) bool {
	highest := 0
	for _, r := range rungs {
		if r.steps > 0 {
			highest = max(highest, r.priority)
		}
	}
	for _, r := range rungs {
		if r.steps > 0 && r.priority == highest {
			r.steps--
		}
	}
	return highest > 0
}

// load sheds the cameras of one model.
type load struct {
	rungs    []*rung
	calm     int // windows without suffering
	patience int // of them before a step back
	probing  bool
}

// look is called once a window with the highest priority among the cameras
// that suffer, 0 for none. Only cameras of lower priority give way: among
// equals, that the newest frame wins is as fair and loses nothing.
func (l *load) look(suffers int) {
	l.patience = max(l.patience, minPatience)
	if suffers > 0 {
		if l.probing {
			l.patience, l.probing = min(2*l.patience, maxPatience), false
		}
		l.calm = 0
		lower(l.rungs, suffers)
		return
	}
	if l.calm++; l.calm < l.patience {
		return
	}
	back := raise(l.rungs)
	if l.probing || !back { // the last step back did no harm
		l.patience = max(l.patience/2, minPatience)
	}
	l.calm, l.probing = 0, back
}

// heat sheds all cameras.
type heat struct {
	rungs     []*rung
	hot, cool float64 // °C
	on        bool    // it was hot, and has not cooled down
}

// look is called once a heatWindow.
func (h *heat) look(celsius float64, known bool) {
	switch {
	case !known || h.hot == 0:
		h.on = false
		raise(h.rungs)
	case celsius >= h.hot:
		h.on = true
		lower(h.rungs, MaxPriority+1)
	case celsius <= h.cool:
		h.on = false
		raise(h.rungs)
	}
}

// shedder looks at the cameras of a Pipeline and reduces them.
type shedder struct {
	p     *Pipeline
	cams  []*shedCamera
	loads []*load // of the workers
	heat  heat
}

// shedCamera is what the shedder knows of a camera.
type shedCamera struct {
	*camera
	load, heat         *rung
	inspected, dropped uint64 // at the last look
	windows            int    // in a row in which frames were dropped
}

func newShedder(p *Pipeline) *shedder {
	o := p.opts.Shed
	s := &shedder{p: p, heat: heat{hot: o.Hot, cool: o.Cool}}
	for _, w := range p.workers {
		l := &load{}
		for _, c := range w.cameras {
			sc := &shedCamera{camera: c, load: c.rung(), heat: c.rung()}
			l.rungs = append(l.rungs, sc.load)
			s.heat.rungs = append(s.heat.rungs, sc.heat)
			s.cams = append(s.cams, sc)
		}
		s.loads = append(s.loads, l)
	}
	return s
}

func (c *camera) rung() *rung {
	return &rung{priority: c.stats.Priority, floor: max(minShedRate, 3/min(c.limits.stall, c.opts.BlindLimit()).Seconds())}
}

// run looks until ctx ends.
func (s *shedder) run(ctx context.Context) {
	tick := time.NewTicker(shedWindow)
	defer tick.Stop()
	for n := 1; ; n++ {
		select {
		case <-tick.C:
			s.look(n%int(heatWindow/shedWindow) == 0)
		case <-ctx.Done():
			return
		}
	}
}

// look compares one window with the one before.
func (s *shedder) look(heated bool) {
	suffers := map[*worker]int{}
	missing := map[*worker]bool{} // a camera does not get the rate that it is configured to
	for _, c := range s.cams {
		if c.measure() {
			suffers[c.worker] = max(suffers[c.worker], c.load.priority)
			missing[c.worker] = missing[c.worker] || c.throttle.interval > 0
		}
	}
	celsius, sensor, known := 0.0, "", false
	if f := s.p.opts.Shed.Temperature; f != nil {
		celsius, sensor, known = f()
	}
	if heated {
		s.heat.look(celsius, known)
	}
	s.p.hottest.Store(&Heat{Known: known, Celsius: celsius, Sensor: sensor, Hot: s.heat.on})
	for i, w := range s.p.workers {
		s.loads[i].look(suffers[w])
		behind := missing[w]
		for _, r := range s.loads[i].rungs {
			behind = behind || r.steps > 0
		}
		w.setBehind(behind)
	}
	for _, c := range s.cams {
		c.reduce()
	}
}

// measure notes how often the camera is inspected, from where steps go down,
// and reports whether it suffers.
func (c *shedCamera) measure() (suffers bool) {
	c.mu.Lock()
	inspected, dropped := c.stats.Inspected, c.stats.Dropped
	c.mu.Unlock()
	ins, lost := inspected-c.inspected, dropped-c.dropped
	c.inspected, c.dropped = inspected, dropped
	for _, r := range []*rung{c.load, c.heat} {
		if r.steps == 0 && !c.opts.Lossless {
			r.wanted = float64(ins) / shedWindow.Seconds()
		}
	}
	if ins > 0 && lost >= sufferLeast && float64(lost) > sufferShare*float64(ins+lost) {
		c.windows++
	} else {
		c.windows = 0 // nothing is inspected without a model, and shedding would not help
	}
	return c.windows >= sufferWindows
}

// reduce makes the camera's reader follow.
func (c *shedCamera) reduce() {
	to, why := 0.0, ""
	for _, r := range []struct {
		*rung
		why string
	}{{c.load, ReducedByLoad}, {c.heat, ReducedByHeat}} {
		if r.steps > 0 && r.wanted > 0 && (to == 0 || r.rate() < to) {
			to, why = r.rate(), r.why
		}
	}
	interval := time.Duration(0)
	if to > 0 {
		interval = time.Duration(float64(time.Second) / to)
	}
	c.throttle.shed.Store(int64(interval))
	c.mu.Lock()
	was := c.stats.ReducedFor
	c.stats.ReducedTo, c.stats.ReducedFor = to, why
	c.mu.Unlock()
	if was != why {
		c.log.Info("camera reduced", "to_fps", to, "for", why)
	}
}

// setBehind notes whether the cameras of a model want more than it inspects.
func (w *worker) setBehind(behind bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stats.Behind = behind
}
