//go:build !novision

package onnx

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"outstation/vision"
)

// proof is what a profiled run showed of a session.
type proof struct {
	nodes   []vision.NodeCount
	missing string // why it showed nothing; only on the CPU
}

// node is one node of a graph as a profiled run saw it.
type node struct{ name, op, provider string }

// readProfile returns the nodes in a profile of ONNX Runtime, each once.
func readProfile(raw []byte) ([]node, error) {
	var events []struct {
		Category string `json:"cat"`
		Name     string `json:"name"`
		Args     struct {
			Op       string `json:"op_name"`
			Provider string `json:"provider"`
		} `json:"args"`
	}
	if err := json.Unmarshal(raw, &events); err != nil {
		return nil, fmt.Errorf("the record of where the nodes ran: %w", err)
	}
	seen := map[string]bool{}
	var nodes []node
	for _, e := range events {
		name, isRun := strings.CutSuffix(e.Name, "_kernel_time")
		if e.Category != "Node" || !isRun || seen[name] {
			continue
		}
		seen[name] = true
		nodes = append(nodes, node{name, e.Args.Op, shortName(e.Args.Provider)})
	}
	return nodes, nil
}

// shortName is a provider as the configuration names it: ONNX Runtime says
// CPUExecutionProvider and TensorrtExecutionProvider.
func shortName(provider string) string {
	return strings.ToLower(strings.TrimSuffix(provider, "ExecutionProvider"))
}

// heavy are words in the names of the operators that take a model's time.
// What else a graph has, such as the arithmetic of shapes, ONNX Runtime itself
// may leave to the CPU. Time is no measure: a GPU's kernels are timed when
// they are started, not when they end.
var heavy = []string{"Conv", "Gemm", "MatMul", "Attention", "LSTM", "GRU", "RNN"}

func isHeavy(op string) bool {
	return slices.ContainsFunc(heavy, func(word string) bool { return strings.Contains(op, word) })
}

// maxOps bounds how many operators a NodeCount names.
const maxOps = 5

// prove counts the nodes of each provider, the one asked for first. It is an
// error when none ran there, or one with a heavy operator ran elsewhere.
func prove(nodes []node, provider string) ([]vision.NodeCount, error) {
	counts := []vision.NodeCount{{Provider: provider}}
	var elsewhere []string
	for _, n := range nodes {
		at := slices.IndexFunc(counts, func(c vision.NodeCount) bool { return c.Provider == n.provider })
		if at < 0 {
			at = len(counts)
			counts = append(counts, vision.NodeCount{Provider: n.provider})
		}
		c := &counts[at]
		c.Nodes++
		if len(c.Ops) < maxOps && !slices.Contains(c.Ops, n.op) {
			c.Ops = append(c.Ops, n.op)
		}
		if n.provider != provider && isHeavy(n.op) {
			elsewhere = append(elsewhere, n.op+" on "+n.provider)
		}
	}
	switch {
	case counts[0].Nodes == 0:
		return counts, fmt.Errorf("none of the graph's %d nodes ran on %s", len(nodes), provider)
	case len(elsewhere) > 0:
		return counts, fmt.Errorf("%d nodes that take the time ran elsewhere, the first: %s", len(elsewhere), elsewhere[0])
	}
	return counts, nil
}
