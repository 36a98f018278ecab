package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// scrape returns the value of every series, as Prometheus' own parser reads it.
func scrape(t *testing.T, a *app) map[string]float64 {
	t.Helper()
	resp, err := http.Get("http://" + a.cfg.Web.Listen + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	decoder := expfmt.SampleDecoder{
		Dec: expfmt.NewDecoder(resp.Body, expfmt.ResponseFormat(resp.Header)), Opts: &expfmt.DecodeOptions{Timestamp: model.Now()},
	}
	out := map[string]float64{}
	for {
		var samples model.Vector
		switch err := decoder.Decode(&samples); {
		case errors.Is(err, io.EOF):
			return out
		case err != nil:
			t.Fatal(err)
		}
		for _, s := range samples {
			out[s.Metric.String()] = float64(s.Value)
		}
	}
}

// expectFigures polls until every series has its value.
func expectFigures(t *testing.T, a *app, want map[string]float64) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		got, wrong := scrape(t, a), ""
		for series, value := range want {
			if v, ok := got[series]; !ok || v != value {
				wrong += fmt.Sprintf("\n%s: got %v (%v), expected %v", series, v, ok, value)
			}
		}
		if wrong == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("not within 30 s:" + wrong)
		}
	}
}

// publishAsDevice publishes n messages and waits for their PUBACKs.
func publishAsDevice(t *testing.T, address string, n int) {
	t.Helper()
	c := mqtt.NewClient(mqtt.NewClientOptions().AddBroker("tcp://" + address).SetClientID("dev"))
	if tok := c.Connect(); !tok.WaitTimeout(10*time.Second) || tok.Error() != nil {
		t.Fatalf("connect: %v", tok.Error())
	}
	defer c.Disconnect(0)
	for i := range n {
		if tok := c.Publish("sensors/line/x", 1, false, fmt.Sprint(i)); !tok.WaitTimeout(10*time.Second) || tok.Error() != nil {
			t.Fatalf("publish %d: %v", i, tok.Error())
		}
	}
}

// TestMetricsFollowMessagesThroughTheAppliance publishes as a device while
// the centre is down, lets the centre return, and looks at the figures.
func TestMetricsFollowMessagesThroughTheAppliance(t *testing.T) {
	centre := startMosquitto(t)
	if err := centre.Stop(); err != nil {
		t.Fatal(err)
	}
	cfg := testConfig(t, t.TempDir(), centre.URL())
	a, err := openApp(cfg, slog.New(slog.DiscardHandler), appOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	})
	const records = 20
	publishAsDevice(t, cfg.Broker.Listeners[0].Address, records)

	expectFigures(t, a, map[string]float64{
		`outstation_queue_records{lane="3"}`:                          records,
		`outstation_queue_records{lane="8"}`:                          0,
		`outstation_broker_puback_seconds_count`:                      records,
		`outstation_ledger_accepted_records_total{route="sensors/#"}`: records,
		`outstation_ledger_queued_records{route="sensors/#"}`:         records,
		`outstation_uplink_state{state="down"}`:                       1,
		`outstation_uplink_state{state="connected"}`:                  0,
		`outstation_uplink_proven`:                                    0,
		`outstation_disk_refusing`:                                    0,
		`outstation_disk_floor_bytes`:                                 1 << 20,
		`outstation_queue_quarantined_stores`:                         0,
	})
	if v := scrape(t, a); v[`outstation_queue_oldest_age_seconds{lane="3"}`] <= 0 || v[`outstation_queue_commit_seconds_count`] < 1 ||
		v[`outstation_uplink_backoff_seconds`] <= 0 || v[`outstation_disk_free_bytes`] < 1<<20 {
		t.Errorf("got %v", v)
	}

	if err := centre.Start(); err != nil {
		t.Fatal(err)
	}
	expectFigures(t, a, map[string]float64{
		`outstation_queue_records{lane="3"}`:                                           0,
		`outstation_queue_oldest_age_seconds{lane="3"}`:                                0,
		`outstation_ledger_settled_records_total{fate="delivered", route="sensors/#"}`: records,
		`outstation_queue_clearing_seconds`:                                            0,
		`outstation_uplink_state{state="connected"}`:                                   1,
		`outstation_uplink_backoff_seconds`:                                            0,
		`outstation_uplink_reconnects_total`:                                           0,
		`outstation_uplink_proven`:                                                     1,
	})
	if v := scrape(t, a); v[`outstation_uplink_puback_seconds_count`] < records || v[`outstation_uplink_canary_seconds`] <= 0 {
		t.Errorf("got %v", v)
	}
}
