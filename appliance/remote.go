package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"outstation/uplink"
	"outstation/uplink/wire"
	"outstation/web"
)

// remote is a running appliance, asked through its page.
type remote struct {
	Web    string `placeholder:"ADDRESS" help:"Address of the appliance's page; by default the one in --config, or ${page}."`
	Config string `type:"path" placeholder:"FILE" help:"Configuration file that the appliance runs with, to take the address of its page from."`
}

// defaultPage is where an appliance has its page whose configuration says
// nothing else.
const defaultPage = "http://127.0.0.1:8080"

// page is the address to ask.
func (c remote) page() (string, error) {
	if c.Web != "" || c.Config == "" {
		return orElse(c.Web, defaultPage), nil
	}
	cfg, err := loadConfig(c.Config, os.Environ())
	return pageOf(cfg.Web.Listen), err
}

// request is one call of the API.
type request struct {
	method, path string
	form         url.Values
	body         io.Reader // instead of a form
}

// client sends requests to an appliance, or to a queue that is opened for it.
type client interface {
	// do hands the answer to read. The time that it may take is ctx's.
	do(ctx context.Context, r request, read func(io.Reader) error) error
}

// call sends one request and decodes the answer into v, unless that is nil.
func call(ctx context.Context, c client, method, path string, form url.Values, v any) error {
	ctx, cancel := context.WithTimeout(ctx, shutdownTimeout)
	defer cancel()
	return c.do(ctx, request{method: method, path: path, form: form}, func(body io.Reader) error {
		if v == nil {
			return nil
		}
		if err := json.NewDecoder(body).Decode(v); err != nil {
			return fmt.Errorf("the answer of %s: %w", path, err)
		}
		return nil
	})
}

func (c remote) do(ctx context.Context, r request, read func(io.Reader) error) error {
	base, err := c.page()
	if err != nil {
		return err
	}
	asked := base
	if !strings.Contains(base, "://") {
		base = "http://" + base
	}
	h := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	err = exchange(ctx, &h, base, r, read, func(err error) error {
		return fmt.Errorf("no appliance answers at %s; is it running, and does --web or --config name its page? %w", asked, err)
	})
	var refused refusedError
	if errors.As(err, &refused) {
		return fmt.Errorf("the appliance refused: %w", err)
	}
	return err
}

// refusedError is why a request was refused.
type refusedError string

func (e refusedError) Error() string { return string(e) }

// exchange sends a request and hands the body of a good answer to read.
func exchange(ctx context.Context, h *http.Client, base string, r request, read func(io.Reader) error, unreachable func(error) error) error {
	u, err := url.JoinPath(base, r.path)
	if err != nil {
		return usageError{fmt.Errorf("--web: %w", err)}
	}
	body, kind := r.body, "application/jsonl"
	if body == nil {
		body, kind = strings.NewReader(r.form.Encode()), "application/x-www-form-urlencoded"
	}
	req, err := http.NewRequestWithContext(ctx, r.method, u, body)
	if err != nil {
		return usageError{fmt.Errorf("--web: %w", err)}
	}
	req.Header.Set("Content-Type", kind)
	req.Header.Set("Accept", "application/json")
	resp, err := h.Do(req)
	if err != nil {
		return unreachable(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode >= http.StatusBadRequest {
		return refusedError(refusal(resp))
	}
	return read(resp.Body)
}

// refusal is what the appliance said against a request.
func refusal(resp *http.Response) string {
	var said struct {
		Error string `json:"error"`
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, 64<<10)).Decode(&said); err != nil || said.Error == "" {
		return resp.Status
	}
	return said.Error
}

type uplinkCommand struct {
	Pause  pauseCommand  `cmd:"" help:"Disconnect from the centre until resumed, over restarts too; everything is queued."`
	Resume resumeCommand `cmd:"" help:"Connect to the centre again."`
}

type pauseCommand struct{ remote }

// Run pauses the uplink.
func (c *pauseCommand) Run(e *env) error {
	if err := call(e.ctx, c, http.MethodPost, "api/v1/uplink/pause", nil, nil); err != nil {
		return err
	}
	fmt.Fprintln(e.out, "paused; everything is queued until: outstation uplink resume")
	return nil
}

type resumeCommand struct{ remote }

// Run resumes the uplink.
func (c *resumeCommand) Run(e *env) error {
	if err := call(e.ctx, c, http.MethodPost, "api/v1/uplink/resume", nil, nil); err != nil {
		return err
	}
	fmt.Fprintln(e.out, "resumed")
	return nil
}

type ledgerCommand struct{ target }

// Run prints every route's account.
func (c *ledgerCommand) Run(e *env) error {
	var ledger []web.RouteLedger
	if err := call(e.ctx, c, http.MethodGet, "api/v1/ledger", nil, &ledger); err != nil {
		return err
	}
	t := tabwriter.NewWriter(e.out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "accepted\tdelivered\tqueued\tdead\texpired\tevicted\tcoalesced\tpurged\tquarantined\t  route")
	for _, l := range ledger {
		for _, a := range []web.Amount{l.Accepted, l.Delivered, l.Queued, l.Dead, l.Expired, l.Evicted, l.Coalesced, l.Purged, l.Quarantined} {
			fmt.Fprintf(t, "%d\t", a.Records)
		}
		fmt.Fprintf(t, "  %s\n", l.Route)
	}
	return t.Flush()
}

type dlqCommand struct {
	Ls    dlqLsCommand    `cmd:"" help:"List the dead letters: what the centre would not take."`
	Show  dlqShowCommand  `cmd:"" help:"Show one with its message."`
	Retry dlqRetryCommand `cmd:"" help:"Queue one again, or all."`
	Drop  dlqDropCommand  `cmd:"" help:"Remove one for good, or all; the ledger calls it purged."`
}

type dlqLsCommand struct{ target }

// Run lists the dead letters.
func (c *dlqLsCommand) Run(e *env) error {
	var letters []uplink.DeadLetter
	if err := call(e.ctx, c, http.MethodGet, "api/v1/dlq", nil, &letters); err != nil {
		return err
	}
	if len(letters) == 0 {
		fmt.Fprintln(e.out, "no dead letters")
		return c.printRetries(e)
	}
	t := tabwriter.NewWriter(e.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "id\tdied\tdeaths\tbytes\troute\ttopic\treason")
	for _, d := range letters {
		fmt.Fprintf(t, "%d\t%s\t%d\t%d\t%s\t%s\t%s\n", d.ID, d.DiedAt.Local().Format(time.DateTime), d.Deaths, d.Size, d.Route, d.Topic, d.Reason)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	return c.printRetries(e)
}

// printRetries says when a running appliance tries dead letters again, and
// what came of it.
func (c *dlqLsCommand) printRetries(e *env) error {
	if c.Dir != "" {
		return nil
	}
	var s web.Snapshot
	if err := call(e.ctx, c, http.MethodGet, "status.json", nil, &s); err != nil {
		return err
	}
	switch d := s.Dead; {
	case d.Retrying:
		fmt.Fprintln(e.out, "being retried now")
	case d.NextRetryAt.IsZero():
		fmt.Fprintln(e.out, "not retried by the clock")
	default:
		fmt.Fprintln(e.out, "next retry:", d.NextRetryAt.Local().Format(time.DateTime))
	}
	if d := s.Dead; !d.LastRetryAt.IsZero() {
		fmt.Fprintf(e.out, "last retry: %s, retried: %d, dead at its end: %d\n", d.LastRetryAt.Local().Format(time.DateTime), d.LastRetried, d.LastLeft)
	}
	return nil
}

type dlqShowCommand struct {
	ID uint64 `arg:"" help:"Number of the dead letter."`
	target
}

// Run prints one dead letter as JSON.
func (c *dlqShowCommand) Run(e *env) error {
	var d json.RawMessage
	if err := call(e.ctx, c, http.MethodPost, "api/v1/dlq/"+strconv.FormatUint(c.ID, 10)+"/show", nil, &d); err != nil {
		return err
	}
	var out bytes.Buffer
	if err := json.Indent(&out, d, "", "  "); err != nil {
		return err
	}
	fmt.Fprintln(e.out, out.String())
	return nil
}

type dlqRetryCommand struct {
	ID string `arg:"" help:"Number of the dead letter, or all."`
	target
}

// Run queues dead letters again.
func (c *dlqRetryCommand) Run(e *env) error { return c.change(e, c.ID, "retry", "queued again") }

type dlqDropCommand struct {
	ID string `arg:"" help:"Number of the dead letter, or all."`
	target
}

// Run removes dead letters.
func (c *dlqDropCommand) Run(e *env) error { return c.change(e, c.ID, "drop", "removed") }

func (c target) change(e *env, id, what, done string) error {
	var changed struct {
		Changed int `json:"changed"`
	}
	if err := call(e.ctx, c, http.MethodPost, "api/v1/dlq/"+url.PathEscape(id)+"/"+what, nil, &changed); err != nil {
		return err
	}
	fmt.Fprintf(e.out, "dead letters %s: %d\n", done, changed.Changed)
	return nil
}

type routeCommand struct {
	Test routeTestCommand `cmd:"" help:"Say where a local topic goes, without sending anything."`
}

type routeTestCommand struct {
	Topic  string `arg:"" help:"Topic on the local broker, or with --down at the centre."`
	Config string `required:"" placeholder:"FILE" help:"Configuration file."`
	Down   bool   `help:"The topic is one at the centre: say where it goes here."`
}

// Run prints the route of a topic.
func (c *routeTestCommand) Run(e *env) error {
	cfg, err := loadConfig(c.Config, os.Environ())
	if err != nil {
		return err
	}
	if c.Down {
		return c.down(cfg, e)
	}
	router, err := uplink.NewRouter(cfg.origin(), cfg.Uplink.routes())
	if err != nil {
		return err
	}
	route, to, ok := router.Route(c.Topic)
	if !ok {
		note := ""
		if wire.Reserved(c.Topic) {
			note = "; devices may not publish there unless a rule of broker.acl_file grants it"
		}
		fmt.Fprintf(e.out, "%s stays local: no route matches%s\n", c.Topic, note)
		return nil
	}
	p := route.Policy
	t := tabwriter.NewWriter(e.out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "route\t%s\nto\t%s\nqos\t%d\npriority\t%d\norder\t%s\n", route.Name, to, route.QoS, route.Priority, orElse(string(p.Order), string(uplink.Strict)))
	fmt.Fprintf(t, "overflow\t%s\nmax_age\t%v\nmax_bytes\t%d\nmax_records\t%d\n", orElse(string(p.Overflow), string(uplink.DropOldest)), p.MaxAge, p.MaxBytes, p.MaxRecords)
	fmt.Fprintf(t, "keep last\t%v\nstrip retained\t%v\ndrop qos 0\t%v\n", p.KeepLast, route.StripRetained, route.DropQoS0)
	return t.Flush()
}

func orElse(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}
