package wire

import "encoding/json"

// MaxSocketLine is the longest line, in bytes and without its newline, that
// the local socket accepts.
const MaxSocketLine = 1 << 20

// SocketReply answers one line on the local socket.
type SocketReply struct {
	EventID string `json:"event_id"`
	OK      bool   `json:"ok"`
	Error   string `json:"error,omitempty"`
}

// Encode returns the reply as one line, newline included.
func (r SocketReply) Encode() ([]byte, error) {
	b, err := json.Marshal(r)
	return append(b, '\n'), err
}
