package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"outstation/appliance/internal/strictyaml"
	"outstation/uplink"
)

type queueCommand struct {
	Ls      queueLsCommand      `cmd:"" help:"List what is queued, by route and lane."`
	Peek    queuePeekCommand    `cmd:"" help:"Show the oldest records without taking them."`
	Export  queueExportCommand  `cmd:"" help:"Write everything that is queued and dead to a file: a box is replaced and its backlog goes along."`
	Import  queueImportCommand  `cmd:"" help:"Queue what an export holds. It goes on where it was interrupted, and never queues twice."`
	Purge   queuePurgeCommand   `cmd:"" help:"Remove queued records for good; the ledger calls them purged."`
	Fsck    queueFsckCommand    `cmd:"" help:"Read the whole store and say what is wrong with it."`
	Salvage queueSalvageCommand `cmd:"" help:"Queue again what is readable in damaged stores of a stopped appliance, as its start would."`
}

type queueLsCommand struct{ target }

// Run lists the streams.
func (c *queueLsCommand) Run(e *env) error {
	var streams []uplink.StreamInfo
	if err := call(e.ctx, c, http.MethodGet, "api/v1/queue", nil, &streams); err != nil {
		return err
	}
	if len(streams) == 0 {
		fmt.Fprintln(e.out, "nothing is queued")
		return nil
	}
	t := tabwriter.NewWriter(e.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "lane\torder\trecords\tbytes\toldest\troute")
	for _, s := range streams {
		fmt.Fprintf(t, "%d\t%s\t%d\t%d\t%s\t%s\n", s.Lane, s.Class, s.Records, s.Bytes, s.OldestAt.Local().Format(time.DateTime), s.Route)
	}
	return t.Flush()
}

type queuePeekCommand struct {
	Route string `help:"Only of this route."`
	N     int    `short:"n" default:"10" help:"How many, at most 1000."`
	After uint64 `help:"Only those after this sequence number."`
	JSON  bool   `name:"json" help:"Print all of each record, as one JSON object a line."`
	target
}

// Run prints records, one a line.
func (c *queuePeekCommand) Run(e *env) error {
	var records []peeked
	form := url.Values{"route": {c.Route}, "n": {strconv.Itoa(c.N)}, "after": {strconv.FormatUint(c.After, 10)}}
	if err := call(e.ctx, c, http.MethodPost, "api/v1/queue/peek", form, &records); err != nil {
		return err
	}
	if !c.JSON {
		return printPeeked(e.out, records)
	}
	enc := json.NewEncoder(e.out)
	enc.SetEscapeHTML(false)
	for _, r := range records {
		if err := enc.Encode(r); err != nil {
			return err
		}
	}
	return nil
}

// printPeeked writes a line a record for people.
func printPeeked(out io.Writer, records []peeked) error {
	if len(records) == 0 {
		fmt.Fprintln(out, "nothing is queued")
		return nil
	}
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "accepted\troute\ttopic\tbytes\tpayload")
	for _, r := range records {
		fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%s\n", r.AcceptedAt.Local().Format(time.DateTime), r.Route, strictyaml.OneLine(r.Topic), r.Bytes, r.start())
	}
	return t.Flush()
}

// Most of a payload that a line shows.
const (
	startRunes = 60
	startBytes = 16
)

// start is the beginning of the payload, in hex where it is not text.
func (r peeked) start() string {
	if r.Text == "" && len(r.Payload) > 0 {
		text := fmt.Sprintf("% x", r.Payload[:min(len(r.Payload), startBytes)])
		if len(r.Payload) > startBytes {
			text += " …"
		}
		return text
	}
	text := []rune(strings.Join(strings.Fields(r.Text), " "))
	if len(text) > startRunes {
		return string(text[:startRunes]) + "…"
	}
	return string(text)
}

type queueExportCommand struct {
	File string `arg:"" type:"path" help:"File to write; it must not exist."`
	target
}

// Run writes the export beside its place, checks it, and moves it there.
func (c *queueExportCommand) Run(e *env) error {
	if _, err := os.Stat(c.File); err == nil {
		return usageError{fmt.Errorf("%s exists already", c.File)}
	}
	part := c.File + ".part"
	f, err := os.OpenFile(part, os.O_CREATE|os.O_RDWR|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	err = c.do(e.ctx, request{method: http.MethodPost, path: "api/v1/queue/export"}, func(body io.Reader) error {
		_, err := io.Copy(f, body)
		return err
	})
	var end uplink.ExportEnd
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		end, err = verify(f)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(part))
	}
	if err := os.Rename(part, c.File); err != nil {
		return err
	}
	fmt.Fprintf(e.out, "%s: %d records and %d dead letters; they are still queued here\n", c.File, end.Records, end.Dead)
	if end.Unread > 0 {
		return fmt.Errorf("%d more cannot be read and are not in it; outstation queue fsck says which", end.Unread)
	}
	return nil
}

// verify reads an export from its start.
func verify(f io.ReadSeeker) (end uplink.ExportEnd, err error) {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return end, err
	}
	return uplink.VerifyExport(f)
}

type queueImportCommand struct {
	File string `arg:"" type:"existingfile" help:"Export to read."`
	target
}

// Run checks the file before it queues anything of it.
func (c *queueImportCommand) Run(e *env) error {
	f, err := os.Open(c.File)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := verify(f); err != nil {
		return fmt.Errorf("nothing was imported: %w", err)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	var done uplink.Imported
	err = c.do(e.ctx, request{method: http.MethodPost, path: "api/v1/queue/import", body: f}, func(body io.Reader) error {
		return json.NewDecoder(body).Decode(&done)
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(e.out, "queued: %d records and %d dead letters; imported before: %d\n", done.Queued.Records, done.Dead.Records, done.Skipped)
	return nil
}

type queuePurgeCommand struct {
	Route  string    `xor:"what" help:"Route to purge."`
	All    bool      `xor:"what" help:"Purge every route."`
	Before time.Time `help:"Only what was accepted before this time, such as 2026-01-31T06:00:00Z."`
	target
}

// Run purges.
func (c *queuePurgeCommand) Run(e *env) error {
	if c.Route == "" && !c.All {
		return usageError{errors.New("queue purge removes queued records for good, so say which: --route NAME (outstation queue ls shows the routes) or --all, " +
			"and --before 2026-01-31T06:00:00Z for none but the older ones. outstation queue peek shows them first, outstation queue export keeps a copy")}
	}
	form := url.Values{"route": {c.Route}}
	if c.All {
		form = url.Values{"all": {"true"}}
	}
	if !c.Before.IsZero() {
		form.Set("before", c.Before.Format(time.RFC3339Nano))
	}
	var gone uplink.Tally
	if err := c.long(e.ctx, "api/v1/queue/purge", form, &gone); err != nil {
		return err
	}
	fmt.Fprintf(e.out, "purged: %d records, %d bytes\n", gone.Records, gone.Bytes)
	return nil
}

// long is a call without a limit on its time.
func (t target) long(ctx context.Context, path string, form url.Values, v any) error {
	return t.do(ctx, request{method: http.MethodPost, path: path, form: form}, func(body io.Reader) error {
		return json.NewDecoder(body).Decode(v)
	})
}

type queueFsckCommand struct{ target }

// errUnsound says that a check found something.
var errUnsound = errors.New("the queue's store has problems; what is sound in it still goes out")

// Run checks the store.
func (c *queueFsckCommand) Run(e *env) error {
	var r uplink.CheckReport
	if err := c.long(e.ctx, "api/v1/queue/fsck", nil, &r); err != nil {
		return err
	}
	fmt.Fprintf(e.out, "queued: %d records, %d bytes; dead letters: %d; set aside: %d\n", r.Queued.Records, r.Queued.Bytes, r.DeadLetters.Records, r.SetAside)
	for _, dir := range r.Quarantines {
		fmt.Fprintf(e.out, "quarantined store: %s\n", dir)
	}
	if len(r.Problems) == 0 {
		fmt.Fprintln(e.out, "no problems")
		return nil
	}
	fmt.Fprintf(e.out, "problems: %d\n  %s\n", len(r.Problems), strings.Join(r.Problems, "\n  "))
	return errUnsound
}

type queueSalvageCommand struct {
	Dir string `required:"" type:"path" placeholder:"DIR" help:"Data directory of a stopped appliance."`
}

// Run opens the queue as the appliance would and waits for the salvage.
func (c *queueSalvageCommand) Run(e *env) error {
	q, err := openStopped(uplink.Options{Dir: filepath.Join(c.Dir, queueDir)})
	if err != nil {
		return err
	}
	err = q.AwaitSalvage(e.ctx)
	s := q.Stats()
	if err = errors.Join(err, s.SalvageError, q.Close()); err != nil {
		return err
	}
	if s.Quarantined != "" {
		fmt.Fprintf(e.out, "the store could not be opened and was moved to %s\n", s.Quarantined)
	}
	if len(s.Salvaged) == 0 {
		fmt.Fprintln(e.out, "nothing to salvage")
	}
	for _, r := range s.Salvaged {
		fmt.Fprintf(e.out, "%s: queued again: %d records and %d dead letters; no room for: %d; unreadable: %d records\n",
			r.Dir, r.Queued.Records, r.Dead.Records, r.Left.Records, r.Unread)
		for _, f := range r.Damaged {
			fmt.Fprintf(e.out, "  damaged: %s\n", f)
		}
	}
	return nil
}
