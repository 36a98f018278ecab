package web

import "strings"

// Rules are what a camera's rules made of what its model found. All is zero for a camera that is not inspected.
type Rules struct {
	Filtered      []Filtered `json:"filtered,omitempty"` // boxes that count for nothing, by the first reason
	Tracks        int        `json:"tracks"`             // that are open
	TracksRefused uint64     `json:"tracks_refused"`     // times that a box found no place among them
	TrackEndsLost uint64     `json:"track_ends_lost"`    // bests and ends that waited too long for a place among the events
}

// Filtered counts boxes that were left out for one reason.
type Filtered struct {
	Reason string `json:"reason"` // class, confidence, area, mask or zone
	Boxes  uint64 `json:"boxes"`
}

// rulesOf says in words what the rules of a camera leave out and follow; empty where they do neither.
func rulesOf(c Camera) string {
	var out, said []string
	for _, f := range c.Filtered {
		if f.Boxes > 0 {
			out = append(out, count(f.Boxes)+" "+filterWords(f.Reason))
		}
	}
	if c.Masked > 0 {
		said = append(said, many(c.Masked, "frame", "frames")+" in which nothing moved")
	}
	if len(out) > 0 {
		said = append(said, "boxes left out: "+strings.Join(out, ", "))
	}
	if c.Tracks > 0 {
		said = append(said, many(c.Tracks, "open track", "open tracks"))
	}
	return strings.Join(said, "; ")
}

// filterWords are the reasons of a box that counts for nothing for a technician.
func filterWords(reason string) string {
	switch reason {
	case "class":
		return "of classes that do not count"
	case "confidence":
		return "too unsure"
	case "area":
		return "too small or too large"
	case "mask":
		return "in a mask"
	case "zone":
		return "outside of the zones"
	}
	return reason
}

// rules sends what became of what a camera's model found.
func (k sink) rules(c Camera, labels []string) {
	if c.Looked == nil {
		return
	}
	all := labels[:len(labels):len(labels)]
	for _, f := range c.Filtered {
		k.counter("camera_filtered_boxes_total", "Boxes that count for nothing, by the first reason.", f.Boxes, append(all, "reason", f.Reason)...)
	}
	k.gauge("camera_open_tracks", "Tracks that are open.", float64(c.Tracks), labels...)
	k.counter("camera_refused_tracks_total", "Times that a box found no place among the camera's tracks.", c.TracksRefused, labels...)
	k.counter("camera_lost_track_ends_total", "Bests and ends of tracks that waited too long for a place among the events.", c.TrackEndsLost, labels...)
}
