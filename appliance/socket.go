package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"outstation/appliance/internal/socket"
	"outstation/uplink"
	"outstation/uplink/wire"
	"outstation/web"
)

// socketBusyWait is how long a line of the local socket waits while the disk
// does not keep up, before it is refused.
const socketBusyWait = 10 * time.Second

// bindSocket makes the local socket. Whoever connects waits for serveSocket.
// The default path is best effort, since nobody asked for it: a run without
// rights, or beside an appliance that is installed, goes on without the
// socket, and health says why.
func (a *app) bindSocket() error {
	cfg := a.cfg.Vision.Socket
	if cfg.Path == "" {
		return nil
	}
	inspected := a.cfg.Vision.inspected()
	a.socket = socket.New(socket.Options{
		Path: cfg.Path, Group: cfg.Group, MaxConnections: cfg.MaxConnections, DeviceID: a.cfg.DeviceID,
		Store: a.storeLine, Inspected: func(id string) bool { return inspected[id] }, Logger: a.log.With("part", "socket"),
	})
	if err := a.socket.Listen(); err != nil {
		if cfg.Path != socket.DefaultPath {
			return err
		}
		a.log.Info("there is no local socket", "error", err)
		return nil
	}
	a.onClose(a.socket.Close) // of a start that does not get to serveSocket
	return nil
}

// inspected are the cameras that have a model here. Of one without, another
// program may well be the one that looks.
func (c VisionConfig) inspected() map[string]bool {
	ids := map[string]bool{}
	for _, cam := range c.Cameras {
		if cam.Model != "" {
			ids[cam.ID] = true
		}
	}
	return ids
}

// serveSocket takes lines.
func (a *app) serveSocket() error {
	if a.socketStats().Listening {
		a.background(a.socket.Serve)
	}
	return nil
}

// storeLine sends an event of the local socket where the appliance's own go:
// to local subscribers at once, whatever the disk does, and to the queue.
func (a *app) storeLine(ctx context.Context, d wire.Detection, payload []byte, done func(error)) error {
	if d.CameraID == heartbeatID {
		return fmt.Errorf("%w: camera_id: %q is kept for the appliance, whose counts leave it out; choose another", socket.ErrInvalid, heartbeatID)
	}
	topic := a.cfg.origin().Detection(d.CameraID)
	if err := a.broker.Publish(topic, payload, 1, false); err != nil {
		a.log.Error("local publish failed", "topic", topic, "error", err)
	}
	route, to, ok := a.router.Load().Route(topic)
	if !ok {
		return fmt.Errorf("no route takes %s to the centre", topic)
	}
	return enqueueWithin(ctx, a.queue, message(route, to, 1, payload, false), done)
}

// enqueueWithin offers a message again while the disk does not keep up. A
// queue that is full is not waited for.
func enqueueWithin(ctx context.Context, q *uplink.Queue, m uplink.Message, done func(error)) error {
	ctx, cancel := context.WithTimeout(ctx, socketBusyWait)
	defer cancel()
	for {
		room := q.Room()
		err := q.Enqueue(m, done)
		if !errors.Is(err, uplink.ErrBusy) {
			return err
		}
		select {
		case <-room:
		case <-ctx.Done():
			return err
		}
	}
}

// socketStats is the zero value without a socket.
func (a *app) socketStats() socket.Stats {
	if a.socket == nil {
		return socket.Stats{}
	}
	return a.socket.Stats()
}

func socketCheck(s socket.Stats) wire.Check {
	const name = "socket"
	switch {
	case s.Path == "":
		return check(name, wire.Healthy, "off, as vision.socket.path is empty")
	case s.Path == socket.DefaultPath && errors.Is(s.Error, fs.ErrNotExist):
		return check(name, wire.Healthy, "off, as its directory is not there; make it before the start, or name another vision.socket.path")
	case s.Path == socket.DefaultPath && errors.Is(s.Error, fs.ErrPermission):
		return check(name, wire.Healthy, "off, as this user may not make it; name another vision.socket.path: "+s.Error.Error())
	case s.Error != nil:
		return check(name, wire.Impaired, "nobody can connect: "+s.Error.Error())
	case s.Listening && s.Connections >= s.MaxConnections:
		return check(name, wire.Impaired, fmt.Sprintf("all %d connections are in use, and further ones are refused; raise vision.socket.max_connections", s.MaxConnections))
	}
	detail := fmt.Sprintf("connections: %d, lines stored: %d, refused: %d", s.Connections, s.Accepted, s.Lines())
	if s.Inspected > 0 {
		detail += fmt.Sprintf("; of cameras that are inspected here as well: %d, the last: %s; give the program a camera_id of its own", s.Inspected, s.LastInspected)
	}
	return check(name, wire.Healthy, detail)
}

func webSocket(s socket.Stats) web.Socket {
	out := web.Socket{
		Path: s.Path, Listening: s.Listening, Connections: s.Connections, MaxConnections: s.MaxConnections,
		Accepted: s.Accepted, ConnectionsRefused: s.ConnectionsRefused, AnswersDropped: s.AnswersDropped, Inspected: s.Inspected,
		LastRefusal: s.LastRefusal, LastRefusalAt: s.LastRefusalAt,
	}
	for cause, n := range s.Refused {
		out.Refused = append(out.Refused, web.SocketRefusals{Cause: socket.Cause(cause).String(), Lines: n})
	}
	return out
}
