package main

import (
	"fmt"
	"net/http"
	"net/url"
	"text/tabwriter"
	"time"
)

type clientsCommand struct {
	Ls         clientsLsCommand         `cmd:"" help:"List who is connected, and who is banned."`
	Disconnect clientsDisconnectCommand `cmd:"" help:"End a device's connection; it may come back."`
	Ban        clientsBanCommand        `cmd:"" help:"Disconnect a client id and keep it out for a while, over restarts too."`
	Unban      clientsUnbanCommand      `cmd:"" help:"Let a client id in again."`
}

type clientsLsCommand struct{ remote }

// Run lists the clients, then the bans.
func (c *clientsLsCommand) Run(e *env) error {
	var list clientList
	if err := call(e.ctx, c, http.MethodGet, "api/v1/clients", nil, &list); err != nil {
		return err
	}
	if len(list.Clients) == 0 {
		fmt.Fprintln(e.out, "no device is connected")
	} else {
		t := tabwriter.NewWriter(e.out, 0, 0, 2, ' ', 0)
		fmt.Fprintln(t, "client\tuser\tfrom\tby\tmqtt\tsince\tin/s\tout/s\towed\tsubscriptions")
		for _, c := range list.Clients {
			fmt.Fprintf(t, "%q\t%s\t%s\t%s\t%s\t%s\t%.1f\t%.1f\t%d\t%d\n", c.ID, orElse(c.User, "-"), c.Remote, c.Listener, c.Protocol,
				c.Since.Local().Format(time.DateTime), c.MessagesInPerS, c.MessagesOutPerS, c.Owed, c.Subscriptions)
		}
		if err := t.Flush(); err != nil {
			return err
		}
	}
	for _, b := range list.Bans {
		fmt.Fprintf(e.out, "banned until %s: %q\n", b.Until.Local().Format(time.DateTime), b.ID)
	}
	return nil
}

type clientsDisconnectCommand struct {
	ID string `arg:"" help:"Client id."`
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
	ID  string        `arg:"" help:"Client id."`
	For time.Duration `default:"1h" help:"How long, such as 30m or 24h."`
	remote
}

// Run bans a client.
func (c *clientsBanCommand) Run(e *env) error {
	var ban clientBan
	if err := call(e.ctx, c, http.MethodPost, clientPath(c.ID, "ban"), url.Values{"for": {c.For.String()}}, &ban); err != nil {
		return err
	}
	fmt.Fprintf(e.out, "banned until %s: %q\n", ban.Until.Local().Format(time.DateTime), ban.ID)
	return nil
}

type clientsUnbanCommand struct {
	ID string `arg:"" help:"Client id."`
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

func clientPath(id, what string) string { return "api/v1/clients/" + url.PathEscape(id) + "/" + what }
