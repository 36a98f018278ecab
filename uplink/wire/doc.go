// Package wire is the contract between the edge and the centre: the topics
// and the bytes of every message that leaves the appliance.
//
// It owns the names of topics, the JSON of each message and its validation.
// Everything that produces or reads these messages imports this package, so
// that nobody restates the contract. Golden vectors for every message are in
// testdata.
//
// It promises that a message which Validate accepts is readable by every
// version of the same schema, and that what it cannot read is an error that
// says what was got and what was expected. It refuses to guess: an unknown
// schema_version is ErrSchema, never a best effort.
//
// The package does no I/O, keeps no state and imports none of ours.
package wire
