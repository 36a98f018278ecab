package wire

import (
	"encoding/json"
	"time"
)

// Command is an order from the centre. It is carried out once per ID, and not
// after Expires.
type Command struct {
	ID      string          `json:"id"`
	Name    string          `json:"name"`
	Args    json.RawMessage `json:"args"` // a JSON object
	Expires *Time           `json:"expires,omitempty"`
}

// Encode returns the JSON of a valid command.
func (c Command) Encode() ([]byte, error) {
	if len(c.Args) == 0 {
		c.Args = json.RawMessage("{}")
	}
	if err := c.Validate(); err != nil {
		return nil, err
	}
	return json.Marshal(c)
}

// ParseCommand reads a command.
func ParseCommand(b []byte) (Command, error) {
	var c Command
	if err := parse(b, "command", &c); err != nil {
		return c, err
	}
	return c, c.Validate()
}

// Validate checks that the command has an id and a name.
func (c Command) Validate() error {
	return required("id", c.ID, "name", c.Name)
}

// Expired reports whether the command is no longer to be carried out at now.
func (c Command) Expired(now time.Time) bool {
	return c.Expires != nil && now.After(c.Expires.Time)
}

// Reply is the answer to a command, under the same ID.
type Reply struct {
	ID     string          `json:"id"`
	OK     bool            `json:"ok"`
	Error  string          `json:"error"`
	Result json.RawMessage `json:"result"` // a JSON object
}

// Encode returns the JSON of a valid reply.
func (r Reply) Encode() ([]byte, error) {
	if len(r.Result) == 0 {
		r.Result = json.RawMessage("{}")
	}
	if err := r.Validate(); err != nil {
		return nil, err
	}
	return json.Marshal(r)
}

// ParseReply reads a reply.
func ParseReply(b []byte) (Reply, error) {
	var r Reply
	if err := parse(b, "reply", &r); err != nil {
		return r, err
	}
	return r, r.Validate()
}

// Validate checks that a reply has an id, and a reason exactly if it failed.
func (r Reply) Validate() error {
	if err := required("id", r.ID); err != nil {
		return err
	}
	if r.OK == (r.Error != "") {
		return invalid("ok is %v and error is %q, expected an error exactly if not ok", r.OK, r.Error)
	}
	return nil
}
