package acceptance

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// step is something that is due at a moment of the run.
type step struct {
	at time.Duration // since the start
	do func(ctx context.Context)
}

// conductor carries out the plan.
type conductor struct {
	*run
	steps []step // by time
	over  bool
}

// conduct carries out the plan until its end, or until ctx ends.
func (r *run) conduct(ctx context.Context) {
	c := &conductor{run: r}
	if ctx.Err() != nil {
		r.interrupted = true
		return
	}
	for _, f := range plan(r.o.Seed, r.o.Length, r.o.Outages, r.o.Kills) {
		if f.kind == Outage {
			c.due(f.at, func(context.Context) { c.cut(f.long) })
		} else {
			c.due(f.at, c.kill)
		}
	}
	c.due(r.o.Length, func(context.Context) { c.over = true })
	r.o.Say("the run begins: %v, outages: %d, kills: %d, seed %d", r.o.Length, r.o.Outages, r.o.Kills, r.o.Seed)
	tick := time.NewTicker(sampleEvery)
	defer tick.Stop()
	for !c.over {
		c.next(ctx, tick.C)
	}
	if left := r.o.Outages + r.o.Kills - len(r.faults); left > 0 && !r.interrupted {
		r.wrong = append(r.wrong, fmt.Sprintf("%d outages and kills were not carried out: the process was not ready for them", left))
	}
}

// next waits for what comes first, and does it.
func (c *conductor) next(ctx context.Context, tick <-chan time.Time) {
	timer := time.NewTimer(time.Until(c.start.Add(c.steps[0].at)))
	defer timer.Stop()
	var exited <-chan struct{}
	if c.child != nil {
		exited = c.child.exited
	}
	select {
	case <-ctx.Done():
		c.interrupted, c.over = true, true
	case <-exited:
		c.wrong = append(c.wrong, fmt.Sprintf("%v after %.0f s: %s", ErrEnded, c.at(), c.child.said()))
		c.over, c.child, c.looking.ended = true, nil, time.Now()
	case <-tick:
		c.poll(ctx)
	case <-timer.C:
		s := c.steps[0]
		c.steps = c.steps[1:]
		s.do(ctx)
	}
}

// due adds a step.
func (c *conductor) due(at time.Duration, do func(context.Context)) {
	c.steps = append(c.steps, step{at, do})
	slices.SortStableFunc(c.steps, func(a, b step) int { return int(a.at - b.at) })
}

// after is a moment from now, since the start.
func (c *conductor) after(d time.Duration) time.Duration { return time.Since(c.start) + d }

func (c *conductor) cut(long time.Duration) {
	c.o.Say("%6.1f s  the link is cut for %.1f s", c.at(), long.Seconds())
	c.line.Cut()
	i := c.begun(Outage)
	c.due(c.after(long), func(context.Context) {
		c.line.Mend()
		c.faults[i].ToS = c.at()
		c.o.Say("%6.1f s  the link is mended", c.at())
	})
}

// kill ends the process, once it has something to lose.
func (c *conductor) kill(ctx context.Context) {
	if c.child == nil || !c.looking.sees(c.account.cameras) {
		c.due(c.after(retryKill), c.kill)
		return
	}
	c.poll(ctx)
	c.looking.ended = time.Now()
	c.child.kill()
	c.child = nil
	i := c.begun(Kill)
	c.o.Say("%6.1f s  the process is killed", c.at())
	c.due(c.after(restartAfter), func(context.Context) {
		c.faults[i].ToS = c.at()
		if err := c.live(); err != nil {
			c.wrong, c.over = append(c.wrong, err.Error()), true
			return
		}
		c.o.Say("%6.1f s  the process is started again", c.at())
	})
}

// begun notes a fault and returns its place in the list.
func (c *conductor) begun(kind string) int {
	c.faults = append(c.faults, Fault{Kind: kind, FromS: c.at()})
	return len(c.faults) - 1
}
