package web

import (
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// newRegistry returns a registry of its own with the appliance, the Go runtime and the process.
func newRegistry(snapshot func() Snapshot) *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(
		collector{snapshot},
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	return r
}

// collector turns one snapshot a scrape into metrics.
type collector struct {
	snapshot func() Snapshot
}

var _ prometheus.Collector = collector{}

// Describe sends nothing: what there is to collect depends on the cameras and routes of the moment.
func (collector) Describe(chan<- *prometheus.Desc) {}

// Collect sends the metrics of one snapshot.
func (c collector) Collect(out chan<- prometheus.Metric) {
	s := c.snapshot()
	sinks := sink{out}
	sinks.identity(s)
	sinks.cameras(s.Cameras)
	sinks.detectors(s.Detectors)
	sinks.classifiers(s.Classifiers)
	sinks.broker(s.Broker)
	sinks.queue(s)
	sinks.disk(s.Queue)
	sinks.ledger(s.Ledger)
	sinks.uplink(s.Uplink)
	sinks.downlink(s.Uplink.Down, s.Uplink.CertExpiresAt)
	sinks.events(s.Events)
	sinks.socket(s.Socket)
	sinks.pictures(s)
	sinks.shedding(s)
	if s.Centre.Demo {
		sinks.counter("demo_centre_messages_total", "Messages that the stand-in centre received.", s.Centre.Messages)
	}
}

// sink makes metrics and sends them. Labels are names and values in turn.
type sink struct {
	out chan<- prometheus.Metric
}

func (k sink) send(kind prometheus.ValueType, name, help string, value float64, labels []string) {
	var names, values []string
	for i := 0; i+1 < len(labels); i += 2 {
		names = append(names, labels[i])
		values = append(values, strings.ToValidUTF8(labels[i+1], "\uFFFD"))
	}
	desc := prometheus.NewDesc("outstation_"+name, help, names, nil)
	m, err := prometheus.NewConstMetric(desc, kind, value, values...)
	k.metric(desc, m, err)
}

func (k sink) metric(desc *prometheus.Desc, m prometheus.Metric, err error) {
	if err != nil {
		m = prometheus.NewInvalidMetric(desc, err)
	}
	k.out <- m
}

func (k sink) histogram(name, help string, h Histogram) {
	buckets := make(map[float64]uint64, len(h.Buckets))
	for _, b := range h.Buckets {
		buckets[b.LeS] = b.Count
	}
	desc := prometheus.NewDesc("outstation_"+name, help, nil, nil)
	m, err := prometheus.NewConstHistogram(desc, h.Count, h.SumS, buckets)
	k.metric(desc, m, err)
}

func (k sink) gauge(name, help string, value float64, labels ...string) {
	k.send(prometheus.GaugeValue, name, help, value, labels)
}

func (k sink) counter(name, help string, value uint64, labels ...string) {
	k.send(prometheus.CounterValue, name, help, float64(value), labels)
}

// seconds is a counter of time.
func (k sink) seconds(name, help string, value float64, labels ...string) {
	k.send(prometheus.CounterValue, name, help, value, labels)
}

// states sends 1 for the present state and 0 for all others, so that a state that ends is seen to end.
func (k sink) states(name, help, present string, all []string, labels ...string) {
	for _, state := range all {
		value := 0.0
		if state == present {
			value = 1
		}
		k.gauge(name, help, value, append(labels[:len(labels):len(labels)], "state", state)...)
	}
}

// time sends a time as Unix seconds and leaves out one that is not known.
func (k sink) time(name, help string, at time.Time, labels ...string) {
	if !at.IsZero() {
		k.gauge(name, help, float64(at.UnixNano())/1e9, labels...)
	}
}

// seconds converts the milliseconds of the snapshot.
func seconds(ms float64) float64 { return ms / 1e3 }
