package web

import "time"

// Downlink is what came down from the centre.
type Downlink struct {
	Received  uint64 `json:"received"`
	Delivered uint64 `json:"delivered"`  // the local broker has them
	Refused   uint64 `json:"refused"`    // times that the local broker did not take one
	Echoes    uint64 `json:"echoes"`     // of the appliance's own messages; not delivered again
	Dropped   uint64 `json:"dropped"`    // no route, no possible local topic, or QoS 0 without room
	LastDrop  string `json:"last_drop"`  // why
	LeftThere uint64 `json:"left_there"` // without room; the centre sends them again
	Waiting   int    `json:"waiting"`    // for the local broker
	Forgotten uint64 `json:"forgotten"`  // echoes that were no longer waited for
	Error     string `json:"error"`      // why the local broker does not take what waits
	// Denied are the subscriptions that the centre does not allow.
	Denied []Denial `json:"denied"`
}

// Denial is a subscription that the centre does not allow.
type Denial struct {
	Filter string `json:"filter"`
	Reason string `json:"reason"`
}

func (k sink) downlink(d Downlink, certExpires time.Time) {
	k.counter("downlink_received_messages_total", "Messages that came down from the centre.", d.Received)
	k.counter("downlink_delivered_messages_total", "Messages from the centre that the local broker has.", d.Delivered)
	k.counter("downlink_refused_messages_total", "Times that the local broker did not take a message.", d.Refused)
	k.counter("downlink_echoes_total", "Messages of the appliance's own that the centre sent back.", d.Echoes)
	k.counter("downlink_dropped_messages_total", "Messages without a route or a possible local topic, or without room at QoS 0.", d.Dropped)
	k.counter("downlink_left_messages_total", "Messages without room that the centre sends again.", d.LeftThere)
	k.counter("downlink_forgotten_echoes_total", "Echoes that were no longer waited for, for want of room.", d.Forgotten)
	k.gauge("downlink_waiting_messages", "Messages that wait for the local broker.", float64(d.Waiting))
	k.gauge("downlink_denied_subscriptions", "Subscriptions that the centre does not allow.", float64(len(d.Denied)))
	k.time("uplink_certificate_expiry_timestamp_seconds", "When the client certificate in use expires, in Unix time.", certExpires)
}
