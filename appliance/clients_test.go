package main

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"outstation/web"
)

// deviceOf connects a device, which does not come back by itself.
func deviceOf(t *testing.T, cfg Config, id string) (mqtt.Client, error) {
	t.Helper()
	c := mqtt.NewClient(mqtt.NewClientOptions().AddBroker("tcp://" + cfg.Broker.Listeners[0].Address).SetClientID(id).
		SetAutoReconnect(false).SetConnectRetry(false))
	token := c.Connect()
	if !token.WaitTimeout(10 * time.Second) {
		t.Fatalf("device %s: no answer within 10 s", id)
	}
	t.Cleanup(func() { c.Disconnect(0) })
	return c, token.Error()
}

// TestClientsAreSeenDisconnectedAndBanned steers devices by the command line;
// a ban holds over a kill.
func TestClientsAreSeenDisconnectedAndBanned(t *testing.T) {
	const id = "line 1/plc"
	cfg := testConfig(t, t.TempDir(), "tcp://"+freeLoopback(t))
	p := start(t, cfg, nil, binary(t))
	clients := func(want int, words string, args ...string) {
		t.Helper()
		code, out := runOnce(t, append(append([]string{"clients"}, args...), "--web="+cfg.Web.Listen)...)
		if code != want || !strings.Contains(out, words) {
			t.Fatalf("clients %v: got %d %s, expected %d and %q", args, code, out, want, words)
		}
	}
	clients(0, "no device is connected", "ls")
	clients(2, "expected a client id", "ban", "")
	dev, err := deviceOf(t, cfg, id)
	if err != nil {
		t.Fatal(err)
	}
	s := p.until("the device on the page", func(s web.Snapshot) bool { return len(s.Broker.Busiest) == 1 })
	if c := s.Broker.Busiest[0]; c.ID != id || c.Listener != "tcp "+cfg.Broker.Listeners[0].Address || c.Protocol != "3.1.1" || c.KeepAliveS != 30 {
		t.Errorf("got %+v", c)
	}
	clients(0, `"line 1/plc"`, "ls")
	clients(1, "no such client", "disconnect", "other")
	clients(0, "disconnected", "disconnect", id)
	eventually(t, "the end of the connection", func() bool { return !dev.IsConnected() })
	clients(1, "expected for as a time", "ban", id, "--for=10ms")
	clients(0, "banned until", "ban", id, "--for=1h")
	p.kill()
	logged(t, p, "a client was disconnected", "a client was banned")
	p = start(t, cfg, nil, binary(t))
	if _, err := deviceOf(t, cfg, id); err == nil {
		t.Error("a banned device came in after a kill")
	}
	clients(0, "banned until", "ls")
	if status, body := pressed(t, cfg, "x/ban"); status != 200 || !strings.Contains(body, ">line 1/plc<") || !strings.Contains(body, "x/unban") {
		t.Errorf("a button: got %d, expected the devices with both bans: %s", status, body)
	}
	clients(0, "not banned", "unban", id)
	clients(1, "no client called", "unban", id)
	if _, err := deviceOf(t, cfg, id); err != nil {
		t.Errorf("a device that is not banned any more: %v", err)
	}
	if status, body := postLocal(t, cfg, "clients/x%2Fy/ban"); status != 200 || !strings.Contains(body, `"x/y"`) {
		t.Errorf("a ban without a time: got %d %s", status, body)
	}
	stays := mqtt.NewClient(mqtt.NewClientOptions().AddBroker("tcp://" + cfg.Broker.Listeners[0].Address).SetClientID("stays").SetCleanSession(false))
	if token := stays.Connect(); !token.WaitTimeout(10*time.Second) || token.Error() != nil {
		t.Fatalf("stays: %v", token.Error())
	}
	stays.Disconnect(0)
	eventually(t, "its session", func() bool {
		_, out := runOnce(t, "clients", "ls", "--web="+cfg.Web.Listen)
		return strings.Contains(out, "away") && strings.Contains(out, `"stays"`)
	})
	clients(0, "forgotten", "forget", "stays")
	clients(1, "no session", "forget", "stays")
	p.kill()
	logged(t, p, "a client is not banned any more", "a session was forgotten")
}

// pressed is what a browser shows after a button was pressed.
func pressed(t *testing.T, cfg Config, call string) (int, string) {
	t.Helper()
	r, err := http.NewRequest(http.MethodPost, "http://"+cfg.Web.Listen+"/api/v1/clients/"+call, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Accept", "text/html,*/*;q=0.8")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// logged reads the log of a process that has ended.
func logged(t *testing.T, p *process, want ...string) {
	t.Helper()
	for _, w := range want {
		if !strings.Contains(p.out.String(), w) {
			t.Errorf("%q is not in the log:\n%s", w, p.out.String())
		}
	}
}

// postLocal calls the API without a body.
func postLocal(t *testing.T, cfg Config, path string) (int, string) {
	t.Helper()
	resp, err := http.Post("http://"+cfg.Web.Listen+"/api/v1/"+path, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func TestLimitsAreChecked(t *testing.T) {
	_, err := parseConfig("f", []byte(`
device_id: d
region: r
site: s
uplink: {brokers: ["tcp://127.0.0.1:1"]}
broker:
  max_keep_alive: 1500ms
  limits:
    max_packet_bytes: 2MiB
    max_connections: 0
    connects_per_s: 0
    publishes_per_s: -1
    max_inflight: 40000
    max_topic_levels: -1
    max_topic_bytes: 70000
    max_subscriptions: 0
`), nil)
	if err == nil {
		t.Fatal("nothing is wrong with it")
	}
	for _, want := range []string{
		"f:7: broker.max_keep_alive: expected 0s", "f:9: broker.limits.max_packet_bytes: expected 1KiB to 1MiB", "f:10: broker.limits.max_connections: expected 1 to",
		"f:11: broker.limits.connects_per_s: expected 0.01", "f:12: broker.limits.publishes_per_s: expected 0 (no limit)", "f:13: broker.limits.max_inflight: expected 1 to 32767",
		"f:14: broker.limits.max_topic_levels", "f:15: broker.limits.max_topic_bytes", "f:16: broker.limits.max_subscriptions",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in:\n%v", want, err)
		}
	}
}
