package main

import (
	"fmt"
	"time"

	"outstation/uplink/wire"
	"outstation/vision/models"
	"outstation/web"
)

// Types of the events of the appliance itself about models.
const (
	eventModelActivated  = "model_activated"
	eventModelRolledBack = "model_rolled_back"
)

// storedCheck adds what the store knows of a configured model to its check.
func storedCheck(c wire.Check, model string, f modelFacts) wire.Check {
	s, ok := f.states[model]
	if !ok {
		return c
	}
	switch back := s.RolledBack; {
	case c.State != wire.Healthy:
		return c
	case s.problem != "":
		c.State, c.Detail = wire.Impaired, s.problem
	case back != nil && !back.ByHand:
		c.State = wire.Impaired
		c.Detail = fmt.Sprintf("rolled back from %s to %s: %s; activate a version to end this", models.Short(back.From), models.Short(back.To), back.Reason)
	case s.Current != "":
		c.Detail += ", version " + models.Short(s.Current)
		if s.Trial != nil {
			c.Detail += ", on trial"
		}
	}
	return c
}

// lookAtModels tells what happened to models.
func (s *service) lookAtModels(f modelFacts) {
	s.models = max(s.models, f.told)
	for ; s.models < f.told+len(f.events); s.models++ {
		e := f.events[s.models-f.told]
		s.tell("model."+e.model, e.kind, e.payload)
	}
}

// webStored is what the page shows of a model of the store, or nil.
func webStored(model string, f modelFacts) *web.StoredModel {
	s, ok := f.states[model]
	if !ok {
		return nil
	}
	out := &web.StoredModel{Name: f.names[model], Version: s.Current, Previous: s.Previous, ActivatedAt: s.ActivatedAt, Gate: s.gate, Problem: s.problem}
	if s.Trial != nil {
		out.TrialUntil = s.since.Add(models.TrialTime).Truncate(time.Second)
	}
	if back := s.RolledBack; back != nil {
		out.RolledBackFrom, out.RolledBackAt, out.RolledBackWhy, out.RolledBackByHand = back.From, back.At, back.Reason, back.ByHand
	}
	return out
}
