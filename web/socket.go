package web

import (
	"cmp"
	"strings"
	"time"
)

// Socket is the local socket, on which other programs hand over detections.
type Socket struct {
	Path               string           `json:"path"` // empty: there is none
	Listening          bool             `json:"listening"`
	Connections        int              `json:"connections"`
	MaxConnections     int              `json:"max_connections"`
	Accepted           uint64           `json:"accepted"` // lines that became durable
	Refused            []SocketRefusals `json:"refused"`
	ConnectionsRefused uint64           `json:"connections_refused"` // beyond MaxConnections
	AnswersDropped     uint64           `json:"answers_dropped"`     // that their senders did not read
	Inspected          uint64           `json:"inspected"`           // lines of cameras that the appliance inspects itself
	// LastRefusal is what the sender of the latest refused line was told.
	LastRefusal   string    `json:"last_refusal,omitempty"`
	LastRefusalAt time.Time `json:"last_refusal_at,omitzero"`
}

// SocketRefusals counts the lines that were refused for one cause: invalid, too_long, cut_off or not_stored.
type SocketRefusals struct {
	Cause string `json:"cause"`
	Lines uint64 `json:"lines"`
}

// refusals says in words how many lines were refused, and why.
func (s Socket) refusals() string {
	var words []string
	for _, r := range s.Refused {
		if r.Lines > 0 {
			words = append(words, count(r.Lines)+" "+strings.ReplaceAll(r.Cause, "_", " "))
		}
	}
	return cmp.Or(strings.Join(words, ", "), "none")
}

func (k sink) socket(s Socket) {
	if s.Path == "" {
		return
	}
	k.gauge("socket_connections", "Connections to the local socket.", float64(s.Connections))
	k.gauge("socket_max_connections", "Connections to the local socket that there may be.", float64(s.MaxConnections))
	k.counter("socket_accepted_lines_total", "Lines of the local socket that became durable.", s.Accepted)
	for _, r := range s.Refused {
		k.counter("socket_refused_lines_total", "Lines of the local socket that were refused, by cause.", r.Lines, "cause", r.Cause)
	}
	k.counter("socket_inspected_camera_lines_total", "Lines of the local socket of cameras that the appliance inspects itself.", s.Inspected)
	k.counter("socket_refused_connections_total", "Connections to the local socket beyond the limit.", s.ConnectionsRefused)
	k.counter("socket_dropped_answers_total", "Answers of the local socket that their senders did not read.", s.AnswersDropped)
}
