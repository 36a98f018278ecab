package uplink

import (
	"encoding/json"
	"fmt"
	"maps"
)

// Tally counts records and their bytes (topic and payload).
type Tally struct {
	Records int64 `json:"records"`
	Bytes   int64 `json:"bytes"`
}

func (t *Tally) add(m Message) { t.Records++; t.Bytes += m.bytes() }
func (t *Tally) sub(m Message) { t.Records--; t.Bytes -= m.bytes() }

func (t Tally) plus(o Tally) Tally {
	return Tally{t.Records + o.Records, t.Bytes + o.Bytes}
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

// Balanced reports whether the account's equation holds.
func (a Account) Balanced() bool {
	sum := a.Delivered
	for _, t := range []Tally{a.Queued, a.Dead, a.Expired, a.Evicted, a.Coalesced, a.Purged, a.Quarantined} {
		sum = sum.plus(t)
	}
	return sum == a.Accepted
}

// Ledger is the account of every route that ever stored a record.
type Ledger map[string]Account

func (l Ledger) clone() Ledger { return maps.Clone(l) }

// accept counts a record that becomes queued.
func (l Ledger) accept(m Message) {
	a := l[m.Route]
	a.Accepted.add(m)
	a.Queued.add(m)
	l[m.Route] = a
}

// settle counts a record that leaves the queue under the outcome's name.
func (l Ledger) settle(m Message, o Outcome) {
	a := l[m.Route]
	a.Queued.sub(m)
	switch o {
	case Delivered:
		a.Delivered.add(m)
	case Quarantined:
		a.Quarantined.add(m)
	}
	l[m.Route] = a
}

// Outcome is how a record left the queue.
type Outcome int

// Outcomes of a record.
const (
	Delivered Outcome = iota
	Quarantined
)

func encodeAccount(a Account) ([]byte, error) { return json.Marshal(a) }

func decodeAccount(route string, b []byte) (Account, error) {
	var a Account
	if err := json.Unmarshal(b, &a); err != nil {
		return a, fmt.Errorf("ledger of route %q: %w", route, err)
	}
	return a, nil
}
