package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"outstation/appliance/internal/load"
	"outstation/uplink"
	"outstation/web"
)

// edge is a load.Edge that can be asked what it knows.
type edge interface {
	load.Edge
	// Check compares the ledger of an edge that is ready with the number of
	// messages that were acknowledged before it started.
	Check(ctx context.Context, acknowledged int, r *result) error
	// Drained waits until a running edge has nothing left for the centre.
	Drained(ctx context.Context) error
	// Final compares the stored ledger of an edge that was stopped with what
	// arrived.
	Final(r *result) error
}

// page is the part that every appliance has, wherever it runs.
type page struct {
	until func(context.Context, func(web.Snapshot) bool) (web.Snapshot, error)
	last  web.RouteLedger // when the queue was empty
}

// route is the ledger's name for what the devices publish.
const route = load.Filter

func account(s web.Snapshot) web.RouteLedger {
	for _, l := range s.Ledger {
		if l.Route == route {
			return l
		}
	}
	return web.RouteLedger{}
}

// balanced reports whether the ledger's equation holds.
func balanced(l web.RouteLedger) bool {
	for _, a := range []web.Amount{l.Delivered, l.Queued, l.Dead, l.Expired, l.Evicted, l.Coalesced, l.Purged, l.Quarantined} {
		l.Accepted.Records -= a.Records
		l.Accepted.Bytes -= a.Bytes
	}
	return l.Accepted == web.Amount{}
}

// Check reads the ledger from the page.
func (p *page) Check(ctx context.Context, acknowledged int, r *result) error {
	s, err := p.until(ctx, func(web.Snapshot) bool { return true })
	if err != nil {
		return err
	}
	l := account(s)
	r.ledger(balanced(l) && l.Accepted.Records >= uint64(acknowledged),
		"after %d kills: %d acknowledged, ledger %+v", r.Kills, acknowledged, l)
	r.Quarantines = max(r.Quarantines, int(s.Queue.Quarantined))
	return nil
}

// ledger counts and prints a comparison that failed.
func (r *result) ledger(ok bool, format string, a ...any) {
	if r.LedgerErrors == nil {
		r.LedgerErrors = new(int)
	}
	if !ok {
		*r.LedgerErrors++
		fmt.Fprintf(os.Stderr, "ledger: "+format+"\n", a...)
	}
}

// Drained waits until the queue is empty.
func (p *page) Drained(ctx context.Context) error {
	s, err := p.until(ctx, func(s web.Snapshot) bool {
		return s.Uplink.State == web.UplinkConnected && s.Queue.Records == 0 && s.Uplink.InFlight == 0
	})
	p.last = account(s)
	return err
}

// process is the appliance as a process of this machine.
type process struct {
	*load.Appliance
	page
}

func newProcess(binary, dir, centre string) (edge, error) {
	a, err := load.NewAppliance(binary, dir, centre)
	if err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(dir, "outstation.log"))
	if err != nil {
		return nil, err
	}
	a.Log = log
	return &process{a, page{until: a.Until}}, nil
}

// Final opens the queue. A message is accepted once and delivered once, and
// devices never repeat one: as many as were accepted must be at the centre.
func (p *process) Final(r *result) error { return finalLedger(p.Data, r) }

func finalLedger(data string, r *result) error {
	q, err := uplink.Open(uplink.Options{Dir: filepath.Join(data, "queue"), MinFreeBytes: 1})
	if err != nil {
		return err
	}
	a := q.Ledger()[route]
	r.Accepted = &a.Accepted.Records
	r.ledger(a.Balanced() && a.Accepted == a.Delivered && a.Accepted.Records == int64(r.Arrived),
		"at the end: %d arrived, account %+v", r.Arrived, a)
	return q.Close()
}

// bridge is Mosquitto in the appliance's place. It has no ledger.
type bridge struct{ *load.Bridge }

func newBridge(dir, centre string) (edge, error) {
	b, err := load.NewBridge(dir, centre)
	if err != nil {
		return nil, err
	}
	return bridge{b}, nil
}

// Check has no ledger to look at.
func (bridge) Check(context.Context, int, *result) error { return nil }

// Drained has nobody to ask: the script waits for silence at the centre.
func (bridge) Drained(context.Context) error { return nil }

// Final has no ledger to look at.
func (bridge) Final(*result) error { return nil }
