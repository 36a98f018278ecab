package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"
)

type forwardCommand struct {
	Test forwardTestCommand `cmd:"" help:"Print the event that a device's message becomes, without sending anything."`
}

type forwardTestCommand struct {
	Topic   string `arg:"" help:"Topic on the local broker."`
	Payload string `default:"-" placeholder:"FILE" help:"The message; - is standard input."`
	Config  string `required:"" placeholder:"FILE" help:"Configuration file."`
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
	ev, ok := engine.Message(c.Topic, payload, time.Now())
	if !ok {
		fmt.Fprintf(e.out, "%s becomes no event: no rule matches\n", c.Topic)
		return nil
	}
	var body bytes.Buffer
	if err := json.Indent(&body, ev.Bytes, "", "  "); err != nil {
		return err
	}
	fmt.Fprintf(e.out, "%s\n%s\n", ev.Topic, body.String())
	return nil
}

// readPayload reads a message of at most the size that is taken.
func readPayload(file string) ([]byte, error) {
	if file == "-" {
		return io.ReadAll(io.LimitReader(os.Stdin, maxPostBytes))
	}
	return os.ReadFile(file)
}
