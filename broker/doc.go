// Package broker is the embedded MQTT server that on-site devices talk to.
//
// It owns the listeners, the sessions and their store, the publish hook and the
// gate through which every acknowledgement passes.
//
// It promises:
//   - a QoS 1 or 2 publish is acknowledged only after the Sink, if it
//     replicates the topic, said that it is durable, and after what devices
//     that come back are owed of it is;
//   - PUBACK and PUBREC leave in the order of their PUBLISH packets
//     (MQTT 3.1.1 and 5, section 4.6), replicated and local ones mixed;
//   - local subscribers get every message at once: neither the disk nor the
//     centre is waited for, but by messages of QoS 2 to sessions that persist;
//   - sessions that persist, what they are owed, and retained messages
//     survive kill -9 and power loss, within Options.Sessions;
//   - what the Sink refuses is never acknowledged: an MQTT 5 device gets
//     reason 0x97, a 3.1.1 device no PUBACK for RefusalWait and then a closed
//     connection.
//
// It refuses to listen to more than this machine without users or client
// certificates, and devices that do what the rules do not grant: publish,
// subscribe, or take over the session of another user. Who may come in, and
// for what, is in broker/access.
//
// The package imports none of ours but that; what it hands over goes through
// Sink.
package broker
