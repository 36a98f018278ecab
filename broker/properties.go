package broker

import (
	"bytes"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

// encodeProperties is what an MQTT 5 message says about itself, as a PUBLISH
// carries it (section 3.3.2.3) without the length before it, or nil. What has
// no meaning beyond the publish is left out: the topic alias and subscription
// identifiers, and the message expiry, which becomes a point in time.
func encodeProperties(p packets.Properties) []byte {
	p.MessageExpiryInterval, p.TopicAlias, p.TopicAliasFlag, p.SubscriptionIdentifier = 0, 0, false, nil
	var b bytes.Buffer
	p.Encode(packets.Publish, packets.Mods{AllowResponseInfo: true}, &b, 0)
	if n, _, err := packets.DecodeLength(&b); err != nil || n == 0 { // it leaves what follows the length
		return nil
	}
	return bytes.Clone(b.Bytes())
}

// expiryOf is when a message that comes at now expires, or the zero time.
func expiryOf(p packets.Properties, now time.Time) time.Time {
	if p.MessageExpiryInterval == 0 {
		return time.Time{}
	}
	return now.Add(time.Duration(p.MessageExpiryInterval) * time.Second)
}
