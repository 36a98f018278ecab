package main

import (
	"outstation/appliance/internal/socket"
	"outstation/broker"
)

// SocketConfig is where other programs hand over their detections.
type SocketConfig struct {
	Path           string `yaml:"path"`  // empty means none
	Group          string `yaml:"group"` // that may connect; empty means the group of the process
	MaxConnections int    `yaml:"max_connections"`
}

// maxSocketConnections keeps the descriptors of all connections within what a
// process may have open.
const maxSocketConnections = 10000

func defaultSocket() SocketConfig {
	return SocketConfig{Path: socket.DefaultPath, MaxConnections: socket.DefaultConnections}
}

func checkSocketPath(path string) error {
	return broker.CheckListener(broker.Listener{Type: broker.TypeUnix, Address: path}, false)
}

func (c *checker) socket(cfg SocketConfig) {
	if cfg.Path == "" {
		return
	}
	c.err("vision.socket.path", checkSocketPath(cfg.Path))
	if cfg.MaxConnections < 1 || cfg.MaxConnections > maxSocketConnections {
		c.add("vision.socket.max_connections", "expected 1 to %d, got %d", maxSocketConnections, cfg.MaxConnections)
	}
}
