// Package uplink stores what the appliance accepted and forwards it to the
// centre.
//
// It owns the durable queue (Badger), the ledger that accounts for every
// record, the routes from local topics to the centre's, and the link (paho)
// that carries records over, and what the centre sends down.
//
// It promises:
//   - Queue.Enqueue reports success only after the record was synced to disk;
//   - a record leaves the queue only after the PUBACK of the connection that
//     sent it, or under another name in the ledger;
//   - the ledger is written in the transaction of what it counts, so it is
//     exact across a kill;
//   - order is kept within a lane, and so within a route;
//   - what the centre sends at QoS 1 is acknowledged to it only when Deliver
//     took it, in order.
//
// It refuses what it cannot store, with ErrFull or ErrBusy, rather than
// dropping it; it never waits for the centre to accept a record.
package uplink
