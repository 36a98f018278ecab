package web

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
	"unicode"
)

// Client is a device that is connected to the broker. The rates are of the last seconds.
type Client struct {
	ID            string    `json:"id"`
	User          string    `json:"user"`     // empty: anonymous
	Remote        string    `json:"remote"`   // its address
	Listener      string    `json:"listener"` // type and address
	Since         time.Time `json:"since,omitzero"`
	Protocol      string    `json:"protocol"` // version of MQTT
	KeepAliveS    float64   `json:"keep_alive_s"`
	Subscriptions int       `json:"subscriptions"`
	Muted         int       `json:"muted"` // subscriptions that bring nothing under the rules of now
	Owed          int       `json:"owed"`  // messages that wait for it, or for its acknowledgement

	MessagesIn  uint64 `json:"messages_in"` // from the device, on this connection
	MessagesOut uint64 `json:"messages_out"`
	BytesIn     uint64 `json:"bytes_in"`
	BytesOut    uint64 `json:"bytes_out"`

	MessagesInPerS  float64 `json:"messages_in_per_s"`
	MessagesOutPerS float64 `json:"messages_out_per_s"`
	BytesInPerS     float64 `json:"bytes_in_per_s"`
	BytesOutPerS    float64 `json:"bytes_out_per_s"`
}

// Away is a session of a device that is not connected.
type Away struct {
	ID            string    `json:"id"`
	User          string    `json:"user"`           // whose it is; empty: of whoever comes next
	Since         time.Time `json:"since"`          // the device is away
	Until         time.Time `json:"until,omitzero"` // the session ends; none is never
	Subscriptions int       `json:"subscriptions"`
	Muted         int       `json:"muted"` // of them, those that bring nothing under the rules of now
	Owed          int       `json:"owed"`  // messages
	OwedBytes     int64     `json:"owed_bytes"`
}

// Ban is a client id that is kept out.
type Ban struct {
	ID    string    `json:"id"`
	Until time.Time `json:"until"`
}

// ClientList is all that the broker knows of its devices, each list by name.
type ClientList struct {
	Clients []Client `json:"clients"` // connected
	Away    []Away   `json:"away"`
	Bans    []Ban    `json:"bans"`
}

// Limited counts what devices did beyond a limit.
type Limited struct {
	Limit string `json:"limit"`
	Count uint64 `json:"count"`
}

// maxBusiest is how many devices the page shows.
const maxBusiest = 8

// BusiestOf returns the clients with the most messages a second in both directions, then the most messages so far, and
// not more than the page shows.
func BusiestOf(clients []Client) []Client {
	sorted := slices.Clone(clients)
	slices.SortFunc(sorted, func(a, b Client) int {
		return cmp.Or(
			-cmp.Compare(math.Round(a.MessagesInPerS+a.MessagesOutPerS), math.Round(b.MessagesInPerS+b.MessagesOutPerS)),
			-cmp.Compare(a.MessagesIn+a.MessagesOut, b.MessagesIn+b.MessagesOut),
			cmp.Compare(a.ID, b.ID),
		)
	})
	return sorted[:min(len(sorted), maxBusiest)]
}

// limitWords say what a limit is of.
var limitWords = map[string]string{
	"packet_size": "packets too large", "connections": "connections too many", "connect_rate": "connections too fast",
	"publish_rate": "publishes held back", "in_flight": "devices with too many publishes in flight", "topic": "topics too long or too deep",
	"subscriptions": "subscriptions too many", "banned": "connections of banned clients",
	"sessions": "sessions too many", "client_id": "client ids too long",
}

// overLimits says what went beyond limits, or nothing.
func overLimits(limited []Limited) string {
	var parts []string
	for _, l := range limited {
		if l.Count > 0 {
			parts = append(parts, fmt.Sprintf("%s %s", count(l.Count), cmp.Or(limitWords[l.Limit], l.Limit)))
		}
	}
	if len(parts) == 0 {
		return ""
	}
	return "beyond a limit: " + strings.Join(parts, ", ")
}

// maxShown is how much of a name the page shows, in characters.
const maxShown = 48

// clip shortens a device's name, which may be anything of up to 64 KiB, and makes it visible.
func clip(name string) string {
	shown := []rune(strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '\ufffd'
	}, name))
	if len(shown) > maxShown {
		shown = append(shown[:maxShown-1], '…')
	}
	return string(shown)
}

// rate writes bytes a second.
func rate(bytesPerS float64) string { return size(uint64(math.Round(max(0, bytesPerS)))) + "/s" }
