package web

import (
	"bytes"
	"html/template"
	"net/http"
	"time"
)

// pageData is what the template sees.
type pageData struct {
	Snapshot
	Build   string
	Verdict verdict
	Stages  []stage
	Ledger  []ledgerRow
	CanCut  bool // a button can cut the stand-in centre
	More    int  // devices that are connected and not shown
	Devices bool // there is a page of all of them
	Sources []EventSource
	Silent  int      // sources that are not shown
	Posts   []string // how machines that posted events were answered
	Outage  string   // how long the stand-in centre stays cut; empty when it is not
}

// checkList is what the template of one level of the health tree sees.
type checkList struct {
	Now    time.Time
	Checks []Check
}

// servePage renders to memory first, so that a broken page is a 500 and never half an answer.
func (s *Server) servePage(w http.ResponseWriter) {
	snap := s.snapshot()
	data := pageData{
		Snapshot: snap,
		Build:    s.build,
		Verdict:  verdictOf(snap),
		Stages:   stagesOf(snap),
		Ledger:   ledgerOf(snap.Ledger),
		More:     max(0, snap.Broker.Clients-len(snap.Broker.Busiest)),
		Devices:  s.options.Clients != nil,
		CanCut:   s.options.DemoOutage != nil && snap.Centre.Demo,
	}
	data.Sources, data.Silent = sourcesOf(snap.Events)
	data.Posts = postsOf(snap.Events.Posts)
	if left := snap.Centre.OutageUntil.Sub(snap.Now); left > 0 {
		data.Outage = spanOf(left.Round(time.Second))
	}
	var body bytes.Buffer
	if err := s.page.Execute(&body, data); err != nil {
		s.fail(w, "rendering the page", err)
		return
	}
	s.write(w, http.StatusOK, "text/html; charset=utf-8", &body)
}

// pageFuncs are what the template calls to write numbers and times.
func pageFuncs() template.FuncMap {
	return template.FuncMap{
		"checks":      func(now time.Time, checks []Check) checkList { return checkList{now, checks} },
		"number":      count[uint64],
		"integer":     count[int],
		"many":        many[uint64],
		"size":        size,
		"bytes":       func(n int64) string { return size(uint64(max(0, n))) },
		"decimal":     decimal,
		"ago":         ago,
		"clock":       clock,
		"stamp":       stamp,
		"tone":        toneOf,
		"clip":        clip,
		"rate":        rate,
		"refusals":    Socket.refusals,
		"inspectedBy": inspectedBy,
		"looked":      lookedOf,
		"blind":       blindOf,
		"stuck":       stuckOf,
		"blindTimes":  blindTimesOf,
		"rules":       rulesOf,
		"modelNotes":  modelNotes,
		"idle":        func(perS float64) bool { return perS < 0.05 },
	}
}
