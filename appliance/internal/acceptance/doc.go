// Package acceptance proves that an appliance loses nothing: it runs one as a
// process of its own before a simulated line whose truth is known, cuts its way
// to the centre, kills it, and compares what the centre has in the end with
// what was accepted, and with what there was to see.
//
// It owns the processes that it starts and what they leave at the centre. It
// refuses to judge a run in which no event arrived.
package acceptance

import (
	"errors"
	"log/slog"
	"runtime"
	"time"

	"outstation/uplink"
	"outstation/uplink/wire"
)

// Options of a run.
type Options struct {
	Executable string // of the appliance
	// Config is the configuration file of the appliance with the Cameras, Drain
	// the same without any. Both have the page on port 0 of loopback.
	Config, Drain string
	Device        string
	Region, Site  string
	Cameras       []Camera
	Since         time.Time // what was captured before is of another run

	// Centre and Backoff are those of the appliance.
	Centre  uplink.Centre
	Backoff uplink.Backoff
	StandIn bool // the centre is none: it only stands in for one

	Length  time.Duration
	Outages int
	Kills   int
	Seed    uint64 // of the plan

	FirstEvent time.Duration // bound of the wait for it; 0 means DefaultFirstEvent
	Arrival    time.Duration // bound of the wait for the last one; 0 means DefaultArrival
	Silence    time.Duration // after a PUBACK, until what has not arrived counts as lost; 0 means DefaultSilence

	Version string // for the report
	// Say is told in words what happens; nil is allowed.
	Say    func(format string, args ...any)
	Logger *slog.Logger

	// Hide keeps a message from the account; only tests set it.
	Hide func(uplink.Tapped) bool
}

// Camera is one simulated camera. Its source is a sim://line with an epoch.
type Camera struct {
	ID     string `json:"id"`
	Source string `json:"source"`
}

// Defaults of Options.
const (
	DefaultFirstEvent = 5 * time.Minute // a model may be built for the machine first
	DefaultArrival    = 2 * time.Minute
	DefaultSilence    = 15 * time.Second
)

// Errors of a run that could not begin.
var (
	// ErrNoEvent says that the appliance made no event in time.
	ErrNoEvent = errors.New("no event was made")
	// ErrNoCentre says that the centre was not reached.
	ErrNoCentre = errors.New("the centre is not reached")
	// ErrNotArrived says that the centre acknowledges events that do not arrive
	// at its subscribers.
	ErrNotArrived = errors.New("the centre acknowledges events that do not arrive")
	// ErrUncuttable says that the link does not go through the way that is cut.
	ErrUncuttable = errors.New("the link cannot be cut")
	// ErrEnded says that the appliance ended by itself.
	ErrEnded = errors.New("the appliance ended by itself")
)

func (o Options) withDefaults() Options {
	if o.FirstEvent == 0 {
		o.FirstEvent = DefaultFirstEvent
	}
	if o.Arrival == 0 {
		o.Arrival = DefaultArrival
	}
	if o.Silence == 0 {
		o.Silence = DefaultSilence
	}
	if o.Say == nil {
		o.Say = func(string, ...any) {}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

func (o Options) origin() wire.Origin {
	return wire.Origin{Region: o.Region, Site: o.Site, DeviceID: o.Device}
}

// topics are where the events of the run arrive.
func (o Options) topics() []string {
	var list []string
	for _, c := range o.Cameras {
		list = append(list, o.origin().Detection(c.ID))
	}
	return list
}

// reader is the client id of the run's own reader at the centre.
func (o Options) reader() string { return o.Device + ".reader" }

// traces are what an appliance leaves at the centre: its sessions and its
// retained messages.
func (o Options) traces() (clients, retained []string) {
	origin := o.origin()
	retained = []string{origin.Status(), origin.Health()}
	for _, c := range o.Cameras {
		retained = append(retained, origin.CameraStatus(c.ID))
	}
	return []string{o.reader(), o.Device}, retained
}

func goVersion() string { return runtime.Version() }
