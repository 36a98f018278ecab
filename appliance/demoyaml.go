package main

import (
	"fmt"

	"go.yaml.in/yaml/v3"
)

// sparseYAML writes what differs from the defaults, so that a file that people
// read and copy says only what somebody chose.
func sparseYAML(cfg Config) ([]byte, error) {
	var chosen, usual yaml.Node
	if err := chosen.Encode(cfg); err != nil {
		return nil, fmt.Errorf("write the configuration: %w", err)
	}
	if err := usual.Encode(defaultConfig()); err != nil {
		return nil, fmt.Errorf("write the defaults: %w", err)
	}
	prune(&chosen, &usual)
	return yaml.Marshal(&chosen)
}

// prune removes from a mapping what is as in usual, or empty where usual does
// not have the key: so it is in the items of a list.
func prune(n, usual *yaml.Node) {
	switch n.Kind {
	case yaml.SequenceNode:
		for _, item := range n.Content {
			prune(item, &yaml.Node{})
		}
	case yaml.MappingNode:
		var kept []*yaml.Node
		for i := 0; i < len(n.Content); i += 2 {
			key, value := n.Content[i], n.Content[i+1]
			other := valueOf(usual, key.Value)
			if other != nil && sameYAML(value, other) {
				continue
			}
			if other == nil {
				other = &yaml.Node{}
			}
			if prune(value, other); emptyYAML(value) && len(usual.Content) == 0 {
				continue
			}
			kept = append(kept, key, value)
		}
		n.Content = kept
	}
}

func valueOf(mapping *yaml.Node, key string) *yaml.Node {
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		if mapping.Content[i].Value == key {
			return mapping.Content[i+1]
		}
	}
	return nil
}

func sameYAML(a, b *yaml.Node) bool {
	if a.Kind != b.Kind || a.Value != b.Value || len(a.Content) != len(b.Content) {
		return false
	}
	for i := range a.Content {
		if !sameYAML(a.Content[i], b.Content[i]) {
			return false
		}
	}
	return true
}

// emptyYAML reports whether n is what an absent key stands for in an item of a list.
func emptyYAML(n *yaml.Node) bool {
	switch n.Value {
	case "", "0", "false", "null", "0s", "0 B":
		return len(n.Content) == 0
	}
	return false
}
