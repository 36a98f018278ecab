package main

import (
	"os/exec"
	"path/filepath"
	"testing"
)

// TestTortureInShort is a few cycles of `make torture`, of the appliance
// without cameras. The bridge runs too: it has to lose something, or the
// script is no test of durability.
func TestTortureInShort(t *testing.T) {
	dir := t.TempDir()
	binary := filepath.Join(dir, "bin", "outstation")
	build := exec.Command("go", "build", "-buildvcs=false", "-tags", "novision", "-o", binary, "outstation/appliance")
	build.Env = append(build.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v: %s", err, out)
	}
	const cycles, seed = 4, 1
	r := report{}
	if err := r.processes(t.Context(), options{binary: binary, cycles: cycles, seed: seed, bridge: true}, dir); err != nil {
		t.Fatal(err)
	}
	if !r.Ours.exact() || r.Ours.Kills != cycles || r.Ours.Acknowledged == 0 {
		t.Errorf("appliance: %+v, accepted %d, %d errors of the ledger", *r.Ours, *r.Ours.Accepted, *r.Ours.LedgerErrors)
	}
	if r.Ours.Cuts == 0 {
		t.Error("the centre was never cut: choose another seed")
	}
	if r.Bridge.Lost == 0 {
		t.Errorf("Mosquitto's bridge lost nothing: %+v", *r.Bridge)
	}
	t.Logf("appliance: %d acknowledged, %d arrived, %d duplicates; bridge: %d of %d acknowledged lost",
		r.Ours.Acknowledged, r.Ours.Arrived, r.Ours.Duplicates, r.Bridge.Lost, r.Bridge.Acknowledged)
}
