package socket

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"outstation/uplink"
	"outstation/uplink/wire"
)

// TestALineIsAnsweredWhenItIsStored holds an event back on its way to the
// queue.
func TestALineIsAnsweredWhenItIsStored(t *testing.T) {
	r := run(t, nil)
	offered, goOn := make(chan struct{}), make(chan struct{})
	r.intercept(func(_ wire.Detection, store func() error) error {
		offered <- struct{}{}
		<-goOn
		return store()
	})
	s := r.dial()
	want := line(1, `, "seq" : 7 ,"unknown":{"a":[1, 2.50]}`)
	s.send(want + "\n")
	<-offered
	if err := s.conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if b, err := s.from.ReadByte(); err == nil {
		t.Fatalf("answered %q before the queue had the event", b)
	}
	if err := s.conn.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	goOn <- struct{}{}
	s.expectOK(id(1))
	if got := r.stored(); len(got) != 1 || got[0] != want {
		t.Errorf("got %q, expected what was sent, %q", got, want)
	}
}

// TestWhatIsLeftOutIsFilledIn leaves out each key that may be.
func TestWhatIsLeftOutIsFilledIn(t *testing.T) {
	r := run(t, nil)
	s := r.dial()
	for n, text := range []string{
		`{` + body + `}`,
		` {  ` + body + "}\t",
		`{"event_id":"` + id(2) + `",` + body + `}`,
		`{"device_id":"` + device + `",` + body + `}`,
		`{` + body + `,"schema_version":"detection.v1"}`,
	} {
		s.send(text + "\n")
		a := s.answer()
		stored := r.stored()
		if !a.OK || len(stored) != n+1 {
			t.Fatalf("%s: got %+v and %d records", text, a, len(stored))
		}
		d, err := wire.ParseDetection([]byte(stored[n]))
		if err != nil || d.EventID != a.EventID || d.DeviceID != device {
			t.Errorf("got %+v, %v from %s", d, err, stored[n])
		}
		if !strings.HasSuffix(stored[n], strings.Trim(text, " \t{")) {
			t.Errorf("stored %s of %s", stored[n], text)
		}
		if n == 2 && a.EventID != id(2) {
			t.Errorf("the event was renamed to %s", a.EventID)
		}
	}
}

// TestRefusals sends what is no event, one after the other.
func TestRefusals(t *testing.T) {
	r := run(t, nil)
	s := r.dial()
	without := func(part string) string { return strings.Replace(line(1, ""), part, "", 1) }
	with := func(from, to string) string { return strings.Replace(line(1, ""), from, to, 1) }
	for _, c := range []struct{ text, id, says string }{
		{`hello`, "", "invalid character 'h'"},
		{line(1, "")[:80], "", "unexpected end"},
		{line(1, "") + line(2, ""), "", "after top-level value"},
		{`null`, "", "expected one JSON object, got null"},
		{`{}`, "", "missing are camera_id, captured_at, inferred_at, model_name, detections, frame_width, frame_height; an example: " + example},
		{`{"event_id":"` + id(1) + `","captured_at":"x","inferred_at":"x","model_name":"m","detections":[],"frame_width":1,"frame_height":1}`, id(1), "camera_id is missing; an example: " + example},
		{with(`"detections":[{`, `"detections":[{"box":[10,20,30,40],`), id(1), "detections[].box: expected an object {x, y, w, h}, got an array"},
		{with(`"captured_at":"`, `"captured_at":"on `), id(1), "captured_at: expected RFC 3339 such as \"2026-11-21T12:00:00.000Z\", got \"on "},
		{`[1]`, "", "expected one JSON object, got \"[1]\""},
		{with("cam-7", "cam-\xff"), "", "UTF-8"},
		{with("detection.v1", "detection.v2"), id(1), "unknown schema_version"},
		{with(`"detection.v1"`, "null"), id(1), "unknown schema_version"},
		{with(`"`+id(1)+`"`, "null"), "", "event_id"},
		{with(id(1), "7"), "", "event_id"},
		{with(device, "dev-2"), id(1), `device_id: got "dev-2", expected "dev-1"`},
		{with(`"`+device+`"`, `null`), id(1), "device_id is missing"},
		{with("cam-7", "Cam 7"), id(1), "camera_id: not a topic level"},
		{with("cam-7", "a/b"), id(1), "camera_id"},
		{with("camera_id", "Camera_ID"), "", `expected "camera_id", got "Camera_ID"`},
		{without(`"camera_id":"cam-7",`), id(1), "camera_id is missing"},
		{with("0.91", "1.5"), id(1), "confidence"},
		{with("640", `"wide"`), id(1), "frame_width"},
		{with("0.91", "NaN"), "", "invalid character 'N'"},
		{strings.Repeat("[", 20000), "", "exceeded max depth"},
	} {
		s.send(c.text + "\n")
		s.expectRefusal(c.id, c.says)
	}
	s.send(with(device, strings.Repeat("d", 500000)) + "\n")
	if a := s.answer(); a.OK || len(a.Error) > maxReason+len("…") {
		t.Errorf("the reason has %d bytes", len(a.Error))
	}
	s.send(line(9, "") + "\n")
	s.expectOK(id(9))
	st := r.s.Stats()
	if st.Accepted != 1 || st.Refused[CauseInvalid] != 25 || st.Lines() != 25 || !strings.Contains(st.LastRefusal, "device_id") || st.LastRefusalAt.IsZero() {
		t.Errorf("got %+v", st)
	}
	if got := r.stored(); len(got) != 1 {
		t.Errorf("got %d records", len(got))
	}
}

// TestLinesOfACameraThatIsInspectedHere are stored, counted, and told to the log
// once a camera.
func TestLinesOfACameraThatIsInspectedHere(t *testing.T) {
	var log bytes.Buffer
	r := run(t, func(o *Options, _ map[string]uplink.Policy) {
		o.Inspected = func(id string) bool { return id != "cam-7" }
		o.Logger = slog.New(slog.NewTextHandler(&log, nil))
	})
	s := r.dial()
	for n, id := range []string{"cam-7", "cam-1", "cam-1", "cam-2"} {
		s.send(strings.Replace(line(n, ""), "cam-7", id, 1) + "\n")
		if a := s.answer(); !a.OK {
			t.Fatalf("%s: got %+v", id, a)
		}
	}
	if st := r.s.Stats(); st.Accepted != 4 || st.Inspected != 3 || st.LastInspected != "cam-2" {
		t.Errorf("got %+v", st)
	}
	if got := log.String(); strings.Count(got, "two programs") != 2 || !strings.Contains(got, "camera_id=cam-1") || !strings.Contains(got, "camera_id=cam-2") {
		t.Errorf("the log says %s", got)
	}
}

// TestEndsOfLines has lines that end in every way that there is.
func TestEndsOfLines(t *testing.T) {
	r := run(t, nil)
	s := r.dial()
	s.send("\n\r\n \t \n" + line(1, "") + "\r\n\n" + line(2, "") + "\n")
	s.expectOK(id(1))
	s.expectOK(id(2))
	s.send(line(3, ""))
	if err := s.conn.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	s.expectOK(id(3)) // a whole object needs no newline
	s.expectEnd()

	for _, half := range []string{line(4, "")[:100], long(4, 100000)[:99999]} {
		s = r.dial()
		s.send(half)
		if err := s.conn.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		s.expectRefusal("", "ended in the middle of a line")
		s.expectEnd()
	}
	s = r.dial()
	s.send(line(5, "")[:100])
	s.conn.Close()
	eventually(t, "the account of three half lines", func() bool { return r.s.Stats().Refused[CauseCutOff] == 3 })
	want := []string{line(1, ""), line(2, ""), line(3, "")}
	if got := r.stored(); !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
}

// TestTheLongestLine has lines of 1 MiB, and of one byte more.
func TestTheLongestLine(t *testing.T) {
	r := run(t, nil)
	s := r.dial()
	for n, c := range []struct {
		bytes int
		end   string
		ok    bool
	}{
		{wire.MaxSocketLine, "\n", true}, {wire.MaxSocketLine, "\r\n", true}, {wire.MaxSocketLine + 1, "\n", false}, {wire.MaxSocketLine + 1, "\r\n", false},
		{shortLine, "\n", true}, {readBuffer, "\n", true}, {readBuffer - 1, "\n", true}, {readBuffer - 1, "\r\n", true}, {20 * wire.MaxSocketLine, "\n", false}, {500, "\n", true},
	} {
		s.send(long(n, c.bytes) + c.end)
		if c.ok {
			s.expectOK(id(n))
		} else {
			s.expectRefusal("", "at most 1048576 bytes")
		}
	}
	if st := r.s.Stats(); st.Refused[CauseTooLong] != 3 || st.Accepted != 7 {
		t.Errorf("got %+v", st)
	}
	for i, n := range []int{0, 1, 4, 5, 6, 7, 9} {
		if got := r.stored()[i]; !strings.Contains(got, id(n)) {
			t.Errorf("record %d is not %d", i, n)
		}
	}
	s = r.dial() // one that does not end is refused before it does
	s.send(strings.Repeat("x", wire.MaxSocketLine+readBuffer))
	s.expectRefusal("", "at most")
	s.send("x\n" + line(20, "") + "\n")
	s.expectOK(id(20))
	if n := len(r.s.places); n != 0 {
		t.Errorf("%d places of long lines are held", n)
	}
}

// TestAnswersComeInTheOrderOfTheLines sends all before it reads one.
func TestAnswersComeInTheOrderOfTheLines(t *testing.T) {
	r := run(t, nil)
	s := r.dial()
	const lines = 5000
	go func() {
		for n := range lines {
			text := line(n, "")
			if n%7 == 0 {
				text = strings.Replace(text, "cam-7", "Cam", 1)
			}
			if _, err := s.conn.Write([]byte(text + "\n")); err != nil {
				t.Error(err)
				return
			}
		}
		if err := s.conn.CloseWrite(); err != nil {
			t.Error(err)
		}
	}()
	for n := range lines {
		if n%7 == 0 {
			s.expectRefusal(id(n), "camera_id")
		} else {
			s.expectOK(id(n))
		}
	}
	s.expectEnd()
	for i, got := range r.stored() {
		if want := i + i/6 + 1; !strings.Contains(got, id(want)) {
			t.Fatalf("record %d is %.80s, expected %s", i, got, id(want))
		}
	}
	if st := r.s.Stats(); st.AnswersDropped != 0 || st.Accepted != lines-715 {
		t.Errorf("got %+v", st)
	}
}

// TestAFullQueueRefuses and takes lines again on the same connection.
func TestAFullQueueRefuses(t *testing.T) {
	r := run(t, func(_ *Options, p map[string]uplink.Policy) {
		p["detection"] = uplink.Policy{MaxRecords: 2, Overflow: uplink.Reject}
	})
	s := r.dial()
	for n := range 2 {
		s.send(line(n, "") + "\n")
		s.expectOK(id(n))
	}
	s.send(line(2, "") + "\n")
	s.expectRefusal(id(2), "queue is full")
	if st := r.s.Stats(); st.Refused[CauseNotStored] != 1 {
		t.Errorf("got %+v", st)
	}
	if _, err := r.q.Purge(t.Context(), "detection", time.Time{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "room", func() bool {
		s.send(line(3, "") + "\n")
		return s.answer().OK
	})
}

// TestOutcomesOfStoring has the queue fail after it took an event.
func TestOutcomesOfStoring(t *testing.T) {
	r := run(t, nil)
	r.intercept(func(d wire.Detection, store func() error) error {
		if d.EventID == id(1) {
			return fmt.Errorf("%w: not this one", ErrInvalid)
		}
		return store()
	})
	s := r.dial()
	s.send(line(1, "") + "\n")
	s.expectRefusal(id(1), "not this one")
	if err := r.q.Close(); err != nil {
		t.Fatal(err)
	}
	s.send(line(2, "") + "\n")
	s.expectRefusal(id(2), uplink.ErrClosed.Error())
	if st := r.s.Stats(); st.Refused[CauseInvalid] != 1 || st.Refused[CauseNotStored] != 1 || st.Accepted != 0 {
		t.Errorf("got %+v", st)
	}
}

// TestSendAndClose is the shortest way to send a line.
func TestSendAndClose(t *testing.T) {
	r := run(t, nil)
	for n := range 50 {
		s := r.dial()
		s.send(line(n, "") + "\n")
		s.conn.Close()
	}
	eventually(t, "all lines", func() bool { return len(r.stored()) == 50 })
	eventually(t, "no connection", func() bool { return r.s.Stats().Connections == 0 })
	if st := r.s.Stats(); st.Accepted != 50 {
		t.Errorf("got %+v", st)
	}
}

// TestAStopAnswersWhatIsInFlight stops while an event is on its way to the
// disk and another line is half there.
func TestAStopAnswersWhatIsInFlight(t *testing.T) {
	r := run(t, nil)
	offered, goOn := make(chan struct{}), make(chan struct{})
	r.intercept(func(_ wire.Detection, store func() error) error {
		offered <- struct{}{}
		<-goOn
		return store()
	})
	busy, half, idle := r.dial(), r.dial(), r.dial()
	half.send(line(2, "")[:50])
	busy.send(line(1, "") + "\n")
	<-offered
	r.stop()
	idle.expectEnd()
	half.expectEnd()
	close(goOn)
	busy.expectOK(id(1))
	busy.expectEnd()
	<-r.ended
	if _, err := os.Lstat(r.path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is still there: %v", err)
	}
	if st := r.s.Stats(); st.Listening || st.Error != nil || st.Accepted != 1 {
		t.Errorf("got %+v", st)
	}
}

// TestAStopDoesNotWaitForADeadDisk has an event that is never settled.
func TestAStopDoesNotWaitForADeadDisk(t *testing.T) {
	r := run(t, nil)
	offered := make(chan struct{})
	r.intercept(func(wire.Detection, func() error) error {
		close(offered)
		return nil
	})
	s := r.dial()
	s.send(line(1, "") + "\n")
	<-offered
	began := time.Now()
	r.stop()
	s.expectEnd()
	if took := time.Since(began); took < drainTimeout {
		t.Errorf("not waited for: %v", took)
	}
}

// TestTheFileOfTheSocket looks at who may connect, and at what was there
// before.
func TestTheFileOfTheSocket(t *testing.T) {
	dir, err := os.MkdirTemp("", "s")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := dir + "/v.sock"
	listen := func(group string) (*Server, error) {
		s := New(Options{Path: path, Group: group})
		return s, s.Listen()
	}
	s, err := listen(fmt.Sprint(os.Getgid()))
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Lstat(path); err != nil || info.Mode() != os.ModeSocket|0o660 {
		t.Errorf("got %v, %v", info.Mode(), err)
	}
	other, err := listen("")
	if err == nil || !strings.Contains(err.Error(), "another process listens on "+path) || !errors.Is(other.Stats().Error, err) {
		t.Errorf("got %v", err)
	}
	s.listener.Close()
	if _, err := listen("no-such-group"); err == nil || !strings.Contains(err.Error(), "no-such-group") {
		t.Errorf("got %v", err)
	}
	left, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	left.SetUnlinkOnClose(false) // as after a kill
	left.Close()
	if s, err = listen(""); err != nil {
		t.Fatalf("what a killed process left: %v", err)
	}
	s.listener.Close()
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := listen(""); err == nil {
		t.Error("a file was replaced")
	}
	if got, err := os.ReadFile(path); string(got) != "precious" {
		t.Errorf("got %q, %v", got, err)
	}
}
