package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"text/tabwriter"
	"time"

	"outstation/web"
)

type clientsCommand struct {
	Ls         clientsLsCommand         `cmd:"" help:"List who is connected, which sessions wait for their devices, and who is banned."`
	Disconnect clientsDisconnectCommand `cmd:"" help:"End a device's connection; it may come back."`
	Ban        clientsBanCommand        `cmd:"" help:"Disconnect a client id and keep it out for a while, over restarts too."`
	Unban      clientsUnbanCommand      `cmd:"" help:"Let a client id in again."`
	Forget     clientsForgetCommand     `cmd:"" help:"End a session: its subscriptions and all that it is owed. Disconnects the device."`
}

type clientsLsCommand struct{ remote }

// Run lists the clients, then the sessions that wait, then the bans.
func (c *clientsLsCommand) Run(e *env) error {
	var list web.ClientList
	if err := call(e.ctx, c, http.MethodGet, "api/v1/clients", nil, &list); err != nil {
		return err
	}
	if err := printClients(e.out, list.Clients); err != nil {
		return err
	}
	if err := printAway(e.out, list.Away); err != nil {
		return err
	}
	for _, b := range list.Bans {
		fmt.Fprintf(e.out, "banned until %s: %q\n", b.Until.Local().Format(time.DateTime), b.ID)
	}
	return nil
}

func printClients(out io.Writer, list []web.Client) error {
	if len(list) == 0 {
		fmt.Fprintln(out, "no device is connected")
		return nil
	}
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "client\tuser\tfrom\tby\tmqtt\tsince\tin/s\tout/s\towed\tsubscriptions")
	for _, c := range list {
		fmt.Fprintf(t, "%q\t%s\t%s\t%s\t%s\t%s\t%.1f\t%.1f\t%d\t%s\n", c.ID, orElse(c.User, "-"), c.Remote, c.Listener, c.Protocol,
			c.Since.Local().Format(time.DateTime), c.MessagesInPerS, c.MessagesOutPerS, c.Owed, subscriptions(c.Subscriptions, c.Muted))
	}
	return t.Flush()
}

func printAway(out io.Writer, list []web.Away) error {
	if len(list) == 0 {
		return nil
	}
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "away\towner\tsince\tuntil\towed\tbytes\tsubscriptions")
	for _, s := range list {
		until := "for ever"
		if !s.Until.IsZero() {
			until = s.Until.Local().Format(time.DateTime)
		}
		fmt.Fprintf(t, "%q\t%s\t%s\t%s\t%d\t%d\t%s\n", s.ID, orElse(s.User, "-"), s.Since.Local().Format(time.DateTime), until,
			s.Owed, s.OwedBytes, subscriptions(s.Subscriptions, s.Muted))
	}
	return t.Flush()
}

// subscriptions writes how many there are, and how many bring nothing.
func subscriptions(all, muted int) string {
	if muted == 0 {
		return fmt.Sprint(all)
	}
	return fmt.Sprintf("%d (%d muted)", all, muted)
}

type clientsDisconnectCommand struct {
	ID clientArg `arg:"" help:"Client id."`
	remote
}

// Run disconnects a client.
func (c *clientsDisconnectCommand) Run(e *env) error {
	if err := call(e.ctx, c, http.MethodPost, clientPath(c.ID, "disconnect"), nil, nil); err != nil {
		return err
	}
	fmt.Fprintf(e.out, "disconnected: %q\n", c.ID)
	return nil
}

type clientsBanCommand struct {
	ID  clientArg     `arg:"" help:"Client id."`
	For time.Duration `default:"${default_ban}" help:"How long, such as 30m or 24h."`
	remote
}

// Run bans a client.
func (c *clientsBanCommand) Run(e *env) error {
	var ban web.Ban
	if err := call(e.ctx, c, http.MethodPost, clientPath(c.ID, "ban"), url.Values{"for": {c.For.String()}}, &ban); err != nil {
		return err
	}
	fmt.Fprintf(e.out, "banned until %s: %q\n", ban.Until.Local().Format(time.DateTime), ban.ID)
	return nil
}

type clientsUnbanCommand struct {
	ID clientArg `arg:"" help:"Client id."`
	remote
}

// Run ends a ban.
func (c *clientsUnbanCommand) Run(e *env) error {
	if err := call(e.ctx, c, http.MethodPost, clientPath(c.ID, "unban"), nil, nil); err != nil {
		return err
	}
	fmt.Fprintf(e.out, "not banned any more: %q\n", c.ID)
	return nil
}

type clientsForgetCommand struct {
	ID clientArg `arg:"" help:"Client id."`
	remote
}

// Run ends a session.
func (c *clientsForgetCommand) Run(e *env) error {
	if err := call(e.ctx, c, http.MethodPost, clientPath(c.ID, "forget"), nil, nil); err != nil {
		return err
	}
	fmt.Fprintf(e.out, "forgotten: %q\n", c.ID)
	return nil
}

// clientArg is a client id on the command line.
type clientArg string

// Validate refuses what is no client id.
func (a clientArg) Validate() error {
	if a == "" {
		return errors.New("expected a client id, got an empty one")
	}
	return nil
}

func clientPath(id clientArg, what string) string {
	return "api/v1/clients/" + url.PathEscape(string(id)) + "/" + what
}
