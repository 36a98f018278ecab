package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"outstation/appliance/internal/forward"
)

type forwardCommand struct {
	Test forwardTestCommand `cmd:"" help:"Print the event that a device's message becomes, without sending anything."`
}

type forwardTestCommand struct {
	Topic       string `arg:"" help:"Topic on the local broker; hooks/SOURCE/ADDRESS for what ADDRESS posts to /hooks/SOURCE."`
	Payload     string `default:"-" placeholder:"FILE" help:"The message; - is standard input."`
	ContentType string `placeholder:"TYPE" help:"Content-Type of a post; guessed without."`
	Config      string `required:"" placeholder:"FILE" help:"Configuration file."`
}

// Run prints a topic and an event.
func (c *forwardTestCommand) Run(e *env) error {
	cfg, err := loadConfig(c.Config, os.Environ())
	if err != nil {
		return err
	}
	engine, err := cfg.forwardEngine()
	if err != nil {
		return err
	}
	payload, err := readPayload(c.Payload)
	if err != nil {
		return usageError{fmt.Errorf("--payload: %w", err)}
	}
	ev, ok, err := c.event(engine, payload)
	if err != nil {
		return usageError{err}
	}
	if !ok {
		fmt.Fprintf(e.out, "%s becomes no event: none of the %d rules below forward: in %s matches\n", c.Topic, len(cfg.Forward), c.Config)
		return nil
	}
	var body bytes.Buffer
	if err := json.Indent(&body, ev.Bytes, "", "  "); err != nil {
		return err
	}
	fmt.Fprintf(e.out, "%s\n%s\n", ev.Topic, body.String())
	return nil
}

// event is what the message becomes: a post if its topic is that of one.
func (c *forwardTestCommand) event(engine *forward.Engine, payload []byte) (ev forward.Event, ok bool, err error) {
	level := strings.Split(c.Topic, "/")
	if len(level) != 3 || level[0] != "hooks" {
		if c.ContentType != "" {
			return ev, false, fmt.Errorf("--content-type: MQTT has none; expected a topic hooks/SOURCE/ADDRESS, got %q", c.Topic)
		}
		ev, ok = engine.Message(c.Topic, payload, time.Now())
		return ev, ok, nil
	}
	if err := forward.CheckSource(level[1]); err != nil {
		return ev, false, fmt.Errorf("source: %w", err)
	}
	ev, err = engine.Webhook(forward.Webhook{
		Source: level[1], From: level[2], ContentType: orElse(c.ContentType, forward.GuessContentType(payload)), Body: payload, Received: time.Now(),
	})
	return ev, true, err
}

// readPayload reads a message of at most the size that is taken.
func readPayload(file string) ([]byte, error) {
	if file == "-" {
		return io.ReadAll(io.LimitReader(os.Stdin, maxPostBytes))
	}
	return os.ReadFile(file)
}
