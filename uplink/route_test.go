package uplink

import (
	"errors"
	"strings"
	"testing"
)

func TestRoutes(t *testing.T) {
	r, err := NewRouter(testOrigin, append([]Route{
		{Match: "press/+/alarm", To: "alarms/{region}/{site}/{2}", QoS: 1, Priority: 8},
		{Match: "press/+/+", To: "{device_id}/{3}/{topic}", Priority: 2},
	}, DefaultRoutes()...))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		topic, name, to string
		lane            int
	}{
		{"press/7/alarm", "press/+/alarm", "alarms/reg/site-1/7", 8},
		{"press/7/oil", "press/+/+", "dev-1/oil/press/7/oil", 2},
		{"sensors/a/b", "sensors/#", "sensors/reg/site-1/a/b", 3},
		{"sensors", "sensors/#", "sensors/reg/site-1/", 3},
		{"vision/reg/site-1/cam/detection", "detection", "vision/reg/site-1/cam/detection", 8},
		{"vision/reg/site-1/cam/snapshot/ab12", "snapshot", "vision/reg/site-1/cam/snapshot/ab12", 1},
		{"vision/reg/site-1/cam/blind", "blind", "vision/reg/site-1/cam/blind", 8},
		{"appliance/reg/site-1/dev-1/health", "health", "appliance/reg/site-1/dev-1/health", 7},
		{"appliance/reg/site-1/dev-1/reply/7", "reply", "appliance/reg/site-1/dev-1/reply/7", 9},
		{"events/reg/site-1/zigbee/door_access", "event", "events/reg/site-1/zigbee/door_access", 7},
		{"appliance/reg/site-1/dev-1/canary", "", "", 0},
		{"cmd/reg/site-1/dev-1/reboot", "", "", 0},
		{"vision/reg/site-2/cam/detection", "", "", 0},
		{"local/only", "", "", 0},
		{"$SYS/sensors", "", "", 0},
	} {
		route, to, ok := r.Route(c.topic)
		if ok != (c.name != "") || to != c.to || (ok && (route.Name != c.name || route.Priority != c.lane)) {
			t.Errorf("%s: got %q in lane %d by %q (%v), expected %q in lane %d by %q", c.topic, to, route.Priority, route.Name, ok, c.to, c.lane, c.name)
		}
	}
}

func TestBadRoutesAreErrorsThatSayWhy(t *testing.T) {
	for _, c := range []struct {
		route Route
		want  string
	}{
		{Route{Match: "", To: "x"}, "filter"},
		{Route{Name: "nope", QoS: 1}, "built-in"},
		{Route{Name: "detection", To: "x"}, "cannot be changed"},
		{Route{Name: "detection", Policy: Policy{Order: Strict}}, "cannot be changed"},
		{Route{Match: "a", To: "x", Policy: Policy{Overflow: "explode"}}, "drop-oldest"},
		{Route{Match: "a", To: "x", Policy: Policy{Order: "random"}}, "by-lane"},
		{Route{Match: "a", To: "x", Policy: Policy{MaxAge: -1}}, "below 0"},
		{Route{Match: "a/#/b", To: "x"}, "#"},
		{Route{Match: "a/b+", To: "x"}, "+"},
		{Route{Match: "a", To: ""}, "template"},
		{Route{Match: "a", To: "{rest}"}, "{rest}"},
		{Route{Match: "a/#", To: "{2}"}, "1 levels"},
		{Route{Match: "a", To: "{nope}"}, "{nope}"},
		{Route{Match: "a", To: "x/{topic"}, "open {"},
		{Route{Match: "a", To: "x/#"}, "without + or #"},
		{Route{Match: "a", To: "x", QoS: 2}, "0 or 1"},
		{Route{Match: "a", To: "x", Priority: 11}, "1 to 10"},
		{Route{Name: "detection", Match: "a", To: "x"}, "two routes"},
	} {
		_, err := NewRouter(testOrigin, []Route{c.route})
		if !errors.Is(err, ErrRoute) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: got %v, expected ErrRoute with %q", c.route, err, c.want)
		}
	}
}

func BenchmarkRoute(b *testing.B) {
	r, err := NewRouter(testOrigin, DefaultRoutes())
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		r.Route("sensors/line-1/press-7/temperature")
	}
}

func TestBuiltInRoutesAreTunedByName(t *testing.T) {
	r, err := NewRouter(testOrigin, []Route{{Name: "snapshot", QoS: 1, Policy: Policy{MaxBytes: 1000, Overflow: Reject}}, {Name: "event", QoS: 1, Priority: 10}})
	if err != nil {
		t.Fatal(err)
	}
	route, to, ok := r.Route("vision/reg/site-1/cam/snapshot/ab")
	if !ok || to != "vision/reg/site-1/cam/snapshot/ab" || route.Priority != 1 || route.Policy.MaxBytes != 1000 || r.Policies()["snapshot"].Overflow != Reject {
		t.Errorf("got %+v to %s", route, to)
	}
	if route, _, _ := r.Route("events/reg/site-1/a/b"); route.Priority != 10 || route.Policy.Order != ByLane {
		t.Errorf("got %+v", route)
	}
}
