package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"outstation/appliance/internal/socket"
	"outstation/broker"
	"outstation/uplink"
	"outstation/uplink/wire"
	"outstation/vision"
	"outstation/web"
)

// app is the running appliance.
type app struct {
	cfg     Config // as it was started
	config  configuration
	log     *slog.Logger
	started time.Time
	session string // of this process, in local presence

	queue       *uplink.Queue
	router      atomic.Pointer[uplink.Router]
	link        *uplink.Link
	retrier     *uplink.Retrier
	pauser      uplink.Pauser
	presences   []*uplink.Presence // the appliance's, then one for each camera
	startUplink func() error       // connects to the centre; of openUplink
	broker      *broker.Broker
	access      accessFiles                   // in force; changed by a reload
	pubacks     uplink.Timings                // of the broker, to devices
	local       atomic.Pointer[broker.Broker] // the same, for the link, once it listens
	out         *publisher
	forward     *forwarder
	ingest      *ingest
	service     *service
	run         *lastRun
	vision      *vision.Pipeline
	models      *modelKeeper
	modelsCtx   context.Context // of calls that change a model
	endModels   func()          // ends it, first of all
	socket      *socket.Server  // nil without one
	heartbeat   *heartbeat      // nil without one
	tracks      *trackLog       // nil where none can be open
	skips       skips           // of directories of pictures
	blind       *blindKeeper
	keeper      *keeper    // of pictures
	restart     chan error // why this process should end and another begin
	demo        *demoCentre
	web         *web.Server

	webError atomic.Pointer[error]
	health   *healthKeeper
	closers  []func() error // in the order of opening
}

// appOptions are what a configuration does not say.
type appOptions struct {
	unsynced bool          // see uplink.Options and broker.Options; only tests set it
	restarts time.Duration // uptime before a restart of its own; 0 means restartUptime; only tests set it
	file     string        // of the configuration, for a reload
	level    *slog.LevelVar

	hung        time.Duration                                       // vision.Options.HungAfter; only tests set it
	newDetector func(VisionConfig, ModelConfig) vision.OpenDetector // nil means newDetector; only tests set it
}

// newApp starts nothing.
func newApp(cfg Config, log *slog.Logger) *app {
	a := &app{cfg: cfg, log: log, started: time.Now(), session: uuid.NewString(), restart: make(chan error, 1)}
	a.modelsCtx, a.endModels = context.WithCancel(context.Background())
	return a
}

// openApp starts every part, the queue first and the sources last. After an
// error nothing is left running. All ports are bound before anything is queued
// by the appliance itself, and the centre is connected to last of all: a start
// that fails, such as a second one beside the first, must not take the
// connections of the device that runs.
func openApp(cfg Config, log *slog.Logger, opt appOptions) (*app, error) {
	a := newApp(cfg, log)
	a.config.file, a.config.level, a.config.inUse = opt.file, opt.level, cfg
	for _, open := range []func() error{
		a.prepareProcess, // before anything else runs C code
		func() error { return a.openQueue(opt) },
		a.openDemo,
		a.openUplink,
		a.openRetrier,
		func() error { return a.prepareBroker(opt) },
		a.bindWeb,
		a.bindSocket,
		a.openBroker,
		a.openBlind,
		a.openSnapshots,
		func() error { return a.prepareVision(opt) },
		a.openHealth,
		a.openService,
		a.serveSocket,
		a.serveVision,
		func() error { return a.openRestart(opt) },
		a.serveWeb,
		a.watchModels,
		func() error { return a.startUplink() },
	} {
		if err := open(); err != nil {
			return nil, errors.Join(err, a.Close())
		}
	}
	return a, nil
}

// Close stops every part in the reverse order, so that sources end before
// what they feed, and the queue last. It attempts every one.
func (a *app) Close() error {
	a.endModels()
	var errs []error
	for i := len(a.closers) - 1; i >= 0; i-- {
		errs = append(errs, a.closers[i]())
	}
	a.closers = nil
	return errors.Join(errs...)
}

func (a *app) onClose(f func() error) { a.closers = append(a.closers, f) }

// background runs serve until Close, which waits for it.
func (a *app) background(serve func(context.Context)) { a.prepared(serve)() }

// prepared has a place in the order of Close, and runs serve from the call of
// start on. It is called once at most, not after Close.
func (a *app) prepared(serve func(context.Context)) (start func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	a.onClose(func() error {
		cancel()
		done.Wait()
		return nil
	})
	return func() { done.Go(func() { serve(ctx) }) }
}

func (a *app) openQueue(opt appOptions) (err error) {
	router, err := uplink.NewRouter(a.cfg.origin(), a.cfg.Uplink.routes())
	if err != nil {
		return err
	}
	a.router.Store(router)
	b := a.cfg.Uplink.Queue.bounds()
	a.queue, err = uplink.Open(uplink.Options{
		Dir:      filepath.Join(a.cfg.DataDir, "queue"),
		MaxBytes: b.MaxBytes, MaxRecords: b.MaxRecords, MaxDeadBytes: b.MaxDeadBytes, MinFreeBytes: b.MinFreeBytes,
		Policies: router.Policies(), Logger: a.log.With("part", "queue"), Unsynced: opt.unsynced,
	})
	if err != nil {
		return err
	}
	a.onClose(a.noteStop) // the last of all
	a.onClose(a.queue.Close)
	return nil
}

func (a *app) openDemo() (err error) {
	if a.cfg.Demo.Centre == "" {
		return nil
	}
	if a.demo, err = openDemo(a.cfg.Demo.Centre, a.log); err != nil {
		return err
	}
	a.onClose(a.demo.Close)
	a.cfg.Uplink.Brokers = a.brokers(a.cfg.Uplink)
	return nil
}

// openUplink makes the connections to the centre, which startUplink starts:
// they end after what feeds them.
func (a *app) openUplink() error {
	up := a.cfg.Uplink
	log := a.log.With("part", "uplink")
	a.pauser.Set(a.queue.Note(pausedKey) != 0)
	backfill, err := up.Backfill.backfill()
	if err != nil {
		return err
	}
	down, err := uplink.NewDownRouter(a.cfg.origin(), up.downRoutes())
	if err != nil {
		return err
	}
	a.link = uplink.NewLink(a.queue, uplink.LinkOptions{
		Centre: up.centre(), ClientID: a.cfg.DeviceID, Window: up.Window, AckTimeout: up.AckTimeout,
		Backoff: up.Backoff.backoff(), Backfill: backfill, Pauser: &a.pauser, Canary: a.cfg.origin().Canary(), MaxPacketBytes: int64(up.MaxPacketBytes), Logger: log,
		Down: down, Deliver: a.comeDown,
	})
	startLink := a.prepared(a.link.Serve)
	for _, camera := range append([]string{""}, a.cameraIDs()...) {
		p := uplink.NewPresence(uplink.PresenceOptions{
			Centre: up.centre(), Origin: a.cfg.origin(), Camera: camera, Backoff: up.Backoff.backoff(), Pauser: &a.pauser, Logger: log,
		})
		if camera != "" {
			p.Set(wire.Offline, vision.ReasonStarting, a.started)
		}
		a.presences = append(a.presences, p)
	}
	startPresences := a.prepared(func(ctx context.Context) {
		var all sync.WaitGroup
		for _, p := range a.presences {
			all.Go(func() { p.Serve(ctx) })
		}
		all.Wait()
	})
	a.startUplink = func() error {
		startLink()
		startPresences()
		return nil
	}
	return nil
}

func (a *app) openRetrier() error {
	schedule, err := uplink.ParseSchedule(a.cfg.Uplink.DeadLetters.Retry)
	if err != nil {
		return err
	}
	a.retrier = uplink.NewRetrier(a.queue, uplink.RetrierOptions{
		Up: func() bool { return a.link.Stats().State == uplink.LinkConnected }, Logger: a.log.With("part", "dead letters"),
	})
	a.retrier.Tune(schedule, a.cfg.Uplink.DeadLetters.Attempts)
	a.background(a.retrier.Serve)
	return nil
}

// prepareBroker makes the broker, and what takes events in beside it.
func (a *app) prepareBroker(opt appOptions) error {
	bans, err := a.storedBans()
	if err != nil {
		return err
	}
	engine, err := a.cfg.forwardEngine()
	if err != nil {
		return err
	}
	a.out = &publisher{router: &a.router, queue: a.queue, log: a.log}
	a.forward = newForwarder(engine, a.out)
	a.ingest = newIngest(a.forward, a.cfg.tokensFile())
	a.service = newService(a.forward, a.cfg.DeviceID, a.started)
	if a.access, err = a.cfg.Broker.access(); err != nil {
		return err
	}
	a.broker = broker.New(broker.Options{
		Listeners: a.cfg.Broker.listeners(), Users: a.access.users, ACL: a.access.acl, AllowAnonymous: a.cfg.Broker.AllowAnonymous,
		Dir: filepath.Join(a.cfg.DataDir, "broker"), MinFreeBytes: uint64(a.cfg.Uplink.Queue.MinFreeBytes),
		Sessions: a.cfg.Broker.Sessions.sessions(), Unsynced: opt.unsynced,
		Reserved: wire.ReservedPrefixes, Validate: validate, NeverRetained: neverRetained, Sink: a.forward.sink(deviceSink(&a.router, a.queue)), Acknowledged: a.pubacks.Add,
		MaxKeepAlive: a.cfg.Broker.MaxKeepAlive, Limits: a.cfg.Broker.Limits.limits(), Bans: bans, Logger: a.log.With("part", "broker"),
	})
	a.out.broker = a.broker // before there are devices
	return nil
}

// openBroker lets devices in.
func (a *app) openBroker() error {
	if err := a.broker.Listen(); err != nil {
		return err
	}
	a.local.Store(a.broker)
	a.onClose(a.broker.Close)
	return nil
}

// prepareProcess sets what cameras need of the whole process.
func (a *app) prepareProcess() error {
	if err := prepareCapture(); err != nil {
		a.log.Warn("cameras", "error", err)
	}
	return nil
}

// prepareVision makes the pipeline, which health looks at. It reads which
// versions of the store are active, and opens none.
func (a *app) prepareVision(apps appOptions) (err error) {
	a.cfg.Vision.EngineDir = filepath.Join(a.cfg.DataDir, "engines")
	a.cfg.Vision.Scratch = filepath.Join(a.cfg.DataDir, "scratch")
	opt := vision.Options{
		OnState: a.cameraState, OnBlind: a.blind.told, ClockState: clockState, MaxStuck: maxStuck(a.cfg.Vision),
		Classifiers: a.cfg.Vision.classifiers(), Logger: a.log.With("part", "vision"), Shed: a.cfg.Vision.Throttle.options(), HungAfter: apps.hung,
	}
	opt.Shed.Temperature = temperature(os.DirFS(thermalRoot))
	a.models = newModelKeeper(a.cfg, a.log.With("part", "models"))
	if apps.newDetector != nil {
		a.models.newDetector = apps.newDetector
	}
	a.models.start()
	a.onClose(a.models.end)
	for _, m := range a.cfg.Vision.Models {
		opt.Models = append(opt.Models, vision.ModelOptions{Name: m.Name, Open: a.models.open(m), MaxWait: m.MaxWait})
	}
	if a.heartbeat, err = newHeartbeat(a.cfg.Vision.Cameras); err != nil {
		return err
	}
	for _, cam := range a.cfg.Vision.Cameras {
		cam = heartbeatCamera(cam)
		source, err := newSource(cam, a.skips.of(cam.ID, a.log))
		if err != nil {
			return fmt.Errorf("camera %s: %w", cam.ID, err)
		}
		camera := vision.CameraOptions{
			ID: cam.ID, Kind: vision.Kind(cam.Source), NewSource: source, Model: cam.Model, FPS: cam.FPS,
			Judge: a.cfg.Vision.judge(cam), Lossless: cam.Lossless, StallAfter: cam.StallAfter,
			BlindAfter: cam.BlindAfter, Account: a.blind.account(cam.ID),
			Snapshot: cam.Snapshot.options(func() int { return a.keeper.maxBytes(cam.ID) }), Priority: cam.priority(),
		}
		cam.applyView(&camera)
		opt.Cameras = append(opt.Cameras, camera)
	}
	sink, err := a.followed(newRecorder(a.cfg, a.out, a.keeper).record)
	if err != nil {
		return err
	}
	opt.Sink = a.heartbeat.sink(sink)
	if a.vision, err = vision.New(opt); err != nil {
		return err
	}
	a.models.vision = a.vision
	a.blind.start(a.vision.Accounts)
	a.serveTracks()
	a.onClose(func() error { a.keeper.hurry(); return nil }) // or what feeds the keeper would not end
	return nil
}

// watchModels judges versions on trial.
func (a *app) watchModels() error {
	a.background(a.models.watch)
	return nil
}

// serveVision starts the cameras.
func (a *app) serveVision() error {
	a.onClose(a.vision.Close)
	go func() {
		if err := a.vision.Serve(context.Background()); err != nil {
			a.log.Error("vision stopped", "error", err) // what was abandoned is in its stats
		}
	}() // Close waits for it
	return nil
}

// cameraState tells the centre and local subscribers what a camera is worth.
func (a *app) cameraState(s vision.CameraState) {
	reason := s.Reason
	if s.Detail != "" {
		reason += ": " + s.Detail
	}
	for i, id := range a.cameraIDs() {
		if id == s.Camera {
			a.presences[i+1].Set(string(s.State), reason, s.Since)
		}
	}
	since := wire.At(s.Since)
	payload, err := wire.Presence{
		DeviceID: a.cfg.DeviceID, CameraID: s.Camera, State: string(s.State), Reason: reason, Session: a.session, Since: &since,
	}.Encode()
	if err == nil {
		err = a.broker.Publish(a.cfg.origin().CameraStatus(s.Camera), payload, 1, true)
	}
	if err != nil {
		a.log.Error("camera state cannot be published", "camera", s.Camera, "error", err)
	}
}

func (a *app) openHealth() error {
	a.health = &healthKeeper{origin: a.cfg.origin(), out: a.out, since: map[string]held{}}
	a.background(func(ctx context.Context) {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			a.health.publish(a.health.tree(a.facts()))
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		}
	})
	return nil
}

// openService tells that the appliance has started, and from then on what
// happens to it.
func (a *app) openService() error {
	was := readLastRun(a.cfg.DataDir, a.log)
	run := a.service.boot(was, lastRun{Version: version, BootID: bootID(), StartedAt: a.started.UTC()})
	a.service.noteRun(run.write(a.cfg.DataDir))
	a.run = &run
	a.background(func(ctx context.Context) { a.service.watch(ctx, a.facts) })
	return nil
}

// bindWeb takes the page's port. Whoever connects waits for serveWeb.
func (a *app) bindWeb() error {
	opt := web.Options{Ingest: a.ingest.handler(), Listen: a.cfg.Web.Listen, Hosts: a.cfg.Web.Hosts, Snapshot: a.snapshot, Clients: a.clientList, API: a.api(), Logger: a.log.With("part", "web")}
	if a.demo != nil {
		opt.DemoOutage = a.demo.Outage
	}
	a.web = web.New(opt)
	if err := a.web.Listen(); err != nil {
		return err
	}
	a.onClose(a.web.Close) // of a start that does not get to serveWeb
	return nil
}

func (a *app) serveWeb() error {
	a.background(func(ctx context.Context) {
		if err := a.web.Serve(ctx); err != nil {
			a.webError.Store(&err)
		}
	})
	a.onClose(a.web.Close) // before what it reads
	return nil
}

func (a *app) cameraIDs() []string {
	ids := make([]string, len(a.cfg.Vision.Cameras))
	for i, c := range a.cfg.Vision.Cameras {
		ids[i] = c.ID
	}
	return ids
}
