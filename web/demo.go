package web

import (
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"time"
)

// Bounds of an outage of the demonstration.
const (
	minOutage = time.Second
	maxOutage = 10 * time.Minute
)

// outage is what POST /api/v1/demo/outage takes and gives back.
type outage struct {
	Duration string `json:"duration"`
}

// serveOutage cuts the stand-in centre. A form gets the page again, everyone else 202 and the duration.
func (s *Server) serveOutage(w http.ResponseWriter, r *http.Request) {
	if s.options.DemoOutage == nil {
		s.writeJSON(w, http.StatusNotFound,
			failure{"this appliance has no demo centre to cut: its uplink goes to a real one, or is off"})
		return
	}
	length, isForm, err := outageLength(w, r)
	if err != nil {
		s.writeJSON(w, http.StatusBadRequest, failure{err.Error()})
		return
	}
	if err := s.options.DemoOutage(length); err != nil {
		s.fail(w, "cutting the demo centre", err)
		return
	}
	if isForm {
		http.Redirect(w, r, "/", http.StatusSeeOther)
		return
	}
	s.writeJSON(w, http.StatusAccepted, outage{length.String()})
}

// outageLength reads the duration from a form or from JSON, by the content type.
func outageLength(w http.ResponseWriter, r *http.Request) (length time.Duration, isForm bool, err error) {
	r.Body = http.MaxBytesReader(w, r.Body, maxBodyBytes)
	mediaType, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	var text string
	switch mediaType {
	case "application/x-www-form-urlencoded":
		isForm = true
		if err := r.ParseForm(); err != nil {
			return 0, isForm, fmt.Errorf("expected a form with the field duration: %w", err)
		}
		text = r.PostForm.Get("duration")
	case "application/json":
		var body outage
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			return 0, isForm, fmt.Errorf(`expected JSON such as {"duration":"30s"}: %w`, err)
		}
		text = body.Duration
	default:
		return 0, isForm, fmt.Errorf("expected application/json or application/x-www-form-urlencoded, got %q", mediaType)
	}
	length, err = time.ParseDuration(text)
	if err != nil {
		err = errors.New("it is no duration")
	} else if length < minOutage || length > maxOutage {
		err = errors.New("it is out of range")
	}
	if err != nil {
		return 0, isForm, fmt.Errorf(`expected a duration from 1s to 10m, such as "30s", got %q: %w`, text, err)
	}
	return length, isForm, nil
}
