package uplink

import (
	"encoding/json"
	"fmt"
	"maps"
)

// Tally counts records and their bytes: topics, payloads and MQTT 5
// properties.
type Tally struct {
	Records int64 `json:"records"`
	Bytes   int64 `json:"bytes"`
}

func (t *Tally) add(size int64) { t.Records++; t.Bytes += size }
func (t *Tally) sub(size int64) { t.Records--; t.Bytes -= size }

func (t Tally) plus(o Tally) Tally {
	return Tally{t.Records + o.Records, t.Bytes + o.Bytes}
}

func (t Tally) minus(o Tally) Tally {
	return Tally{t.Records - o.Records, t.Bytes - o.Bytes}
}

// Account is one route's part of the ledger. Between transactions
//
//	Accepted = Delivered + Queued + Dead + Expired + Evicted + Coalesced + Purged + Quarantined
//
// in records and in bytes, across restarts.
type Account struct {
	Accepted    Tally `json:"accepted"`
	Delivered   Tally `json:"delivered"` // the centre's PUBACK was seen
	Queued      Tally `json:"queued"`
	Dead        Tally `json:"dead"`
	Expired     Tally `json:"expired"`
	Evicted     Tally `json:"evicted"`
	Coalesced   Tally `json:"coalesced"`
	Purged      Tally `json:"purged"`
	Quarantined Tally `json:"quarantined"` // could not be read back
}

// tallies are all of an account's, Accepted first.
func (a *Account) tallies() []*Tally {
	return []*Tally{&a.Accepted, &a.Delivered, &a.Queued, &a.Dead, &a.Expired, &a.Evicted, &a.Coalesced, &a.Purged, &a.Quarantined}
}

// Balanced reports whether the account's equation holds.
func (a Account) Balanced() bool {
	var sum Tally
	for _, t := range a.tallies()[1:] {
		sum = sum.plus(*t)
	}
	return sum == a.Accepted
}

func (a Account) plus(o Account) Account {
	for i, t := range o.tallies() {
		*a.tallies()[i] = a.tallies()[i].plus(*t)
	}
	return a
}

func (a Account) minus(o Account) Account {
	for i, t := range o.tallies() {
		*a.tallies()[i] = a.tallies()[i].minus(*t)
	}
	return a
}

// Ledger is the account of every route that ever stored a record.
type Ledger map[string]Account

func (l Ledger) clone() Ledger { return maps.Clone(l) }

// accept counts a record that becomes queued.
func (l Ledger) accept(route string, size int64) {
	a := l[route]
	a.Accepted.add(size)
	a.Queued.add(size)
	l[route] = a
}

// revive counts a dead letter that becomes queued.
func (l Ledger) revive(route string, size int64) {
	a := l[route]
	a.Dead.sub(size)
	a.Queued.add(size)
	l[route] = a
}

// recover counts a record of a quarantined store that is queued or dead
// again. One that the copy of the totals did not know was accepted as well.
func (l Ledger) recover(route string, size int64, o Outcome) {
	a := l[route]
	if a.Quarantined.Records > 0 && a.Quarantined.Bytes >= size {
		a.Quarantined.sub(size)
	} else {
		a.Accepted.add(size)
	}
	a.of(o).add(size)
	l[route] = a
}

// settle counts a record that leaves the queue under the outcome's name.
func (l Ledger) settle(route string, size int64, o Outcome) {
	a := l[route]
	a.Queued.sub(size)
	a.of(o).add(size)
	l[route] = a
}

// Outcome is how a record left the queue.
type Outcome int

// Outcomes of a record.
const (
	Delivered   Outcome = iota // the centre's PUBACK was seen
	Dead                       // moved to the dead letters
	Expired                    // older than it may be
	Evicted                    // gave way at a bound
	Coalesced                  // a newer one of its topic replaced it
	Purged                     // removed by hand
	Quarantined                // could not be read back
	queued                     // it has not left
)

// of is the tally of an outcome.
func (a *Account) of(o Outcome) *Tally {
	switch o {
	case queued:
		return &a.Queued
	case Delivered:
		return &a.Delivered
	case Dead:
		return &a.Dead
	case Expired:
		return &a.Expired
	case Evicted:
		return &a.Evicted
	case Coalesced:
		return &a.Coalesced
	case Purged:
		return &a.Purged
	}
	return &a.Quarantined
}

func encodeAccount(a Account) ([]byte, error) { return json.Marshal(a) }

func decodeAccount(route string, b []byte) (Account, error) {
	var a Account
	if err := json.Unmarshal(b, &a); err != nil {
		return a, fmt.Errorf("ledger of route %q: %w", route, err)
	}
	return a, nil
}
