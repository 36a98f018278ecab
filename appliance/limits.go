package main

import (
	"time"

	"outstation/broker"
)

// LimitsConfig bounds what devices may ask of the local broker.
type LimitsConfig struct {
	MaxPacketBytes   Bytes   `yaml:"max_packet_bytes"`
	MaxConnections   int     `yaml:"max_connections"`
	ConnectsPerS     float64 `yaml:"connects_per_s"`  // from one address
	PublishesPerS    float64 `yaml:"publishes_per_s"` // of one device; 0: no limit
	MaxInflight      int     `yaml:"max_inflight"`
	MaxTopicLevels   int     `yaml:"max_topic_levels"`
	MaxTopicBytes    int     `yaml:"max_topic_bytes"`
	MaxSubscriptions int     `yaml:"max_subscriptions"` // of one device
}

func (c LimitsConfig) limits() broker.Limits {
	return broker.Limits{
		MaxPacketBytes: int(c.MaxPacketBytes), MaxConnections: c.MaxConnections, ConnectsPerS: c.ConnectsPerS, PublishesPerS: c.PublishesPerS,
		MaxInflight: c.MaxInflight, MaxTopicLevels: c.MaxTopicLevels, MaxTopicBytes: c.MaxTopicBytes, MaxSubscriptions: c.MaxSubscriptions,
	}
}

// defaultLimits are those of the broker.
func defaultLimits() LimitsConfig {
	l := broker.DefaultLimits
	return LimitsConfig{
		MaxPacketBytes: Bytes(l.MaxPacketBytes), MaxConnections: l.MaxConnections, ConnectsPerS: l.ConnectsPerS, PublishesPerS: l.PublishesPerS,
		MaxInflight: l.MaxInflight, MaxTopicLevels: l.MaxTopicLevels, MaxTopicBytes: l.MaxTopicBytes, MaxSubscriptions: l.MaxSubscriptions,
	}
}

func (c *checker) limits(cfg BrokerConfig) {
	l, key := cfg.Limits, "broker.limits."
	if l.MaxPacketBytes < 1<<10 || l.MaxPacketBytes > broker.MaxPacketBytes {
		c.add(key+"max_packet_bytes", "expected 1KiB to 1MiB, which the queue has room for, got %d bytes", l.MaxPacketBytes)
	}
	for _, n := range []struct {
		key       string
		got, most int
	}{
		{"max_connections", l.MaxConnections, 1_000_000}, {"max_inflight", l.MaxInflight, 32767}, {"max_topic_levels", l.MaxTopicLevels, 65535},
		{"max_topic_bytes", l.MaxTopicBytes, 65535}, {"max_subscriptions", l.MaxSubscriptions, 1_000_000},
	} {
		if n.got < 1 || n.got > n.most {
			c.add(key+n.key, "expected 1 to %d, got %d", n.most, n.got)
		}
	}
	if !(l.ConnectsPerS >= 0.01 && l.ConnectsPerS <= 1e6) {
		c.add(key+"connects_per_s", "expected 0.01 to 1000000, got %v", l.ConnectsPerS)
	}
	if l.PublishesPerS != 0 && !(l.PublishesPerS >= 0.01 && l.PublishesPerS <= 1e6) {
		c.add(key+"publishes_per_s", "expected 0 (no limit), or 0.01 to 1000000, got %v", l.PublishesPerS)
	}
	if k := cfg.MaxKeepAlive; k != 0 && (k < 5*time.Second || k > 65535*time.Second || k%time.Second != 0) {
		c.add("broker.max_keep_alive", "expected 0s (as the device wants it), or whole seconds from 5s to 65535s, got %v", k)
	}
}
