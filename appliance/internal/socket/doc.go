// Package socket is the local socket of the wire contract: programs on this
// machine, in any language, hand over detection.v1 events, one JSON object a
// line, and are told of each line whether it is on disk.
//
// It owns the listener, its connections, the bounds of both, and the order of
// the answers. It promises that a line answered ok is durable, that answers
// come in the order of the lines, and that neither a sender that never reads
// nor one that never ends its line holds up another. It refuses to wait for
// ever: whatever a sender may hold is bounded in number, bytes or time.
//
// What becomes of an event is the business of Options.Store.
package socket
