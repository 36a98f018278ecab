package wire

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// ErrLevel says that a name cannot be a level of a topic.
var ErrLevel = errors.New("not a topic level")

// levelPattern is what the contract allows in a level of its topics.
var levelPattern = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,63}$`)

// CheckLevel returns nil if s can stand as one level of a topic, such as a
// region, a site, a device id or a camera id.
func CheckLevel(s string) error {
	if !levelPattern.MatchString(s) {
		return fmt.Errorf("%w: got %q, expected 1 to 64 of a-z 0-9 . _ -, beginning with a letter or digit", ErrLevel, s)
	}
	return nil
}

// ReservedPrefixes are the first levels below which a device may not publish
// unless it was granted to.
var ReservedPrefixes = []string{"vision/", "appliance/", "events/", "cmd/"}

// Reserved reports whether topic lies below one of ReservedPrefixes.
func Reserved(topic string) bool {
	for _, p := range ReservedPrefixes {
		if strings.HasPrefix(topic, p) {
			return true
		}
	}
	return false
}

// Origin names one appliance; it builds the topics that belong to it. Each
// field must satisfy CheckLevel.
type Origin struct {
	Region, Site, DeviceID string
}

// Detection is the topic of a camera's detection events.
func (o Origin) Detection(camera string) string { return o.vision(camera, "detection") }

// CameraStatus is the retained topic of a camera's presence.
func (o Origin) CameraStatus(camera string) string { return o.vision(camera, "status") }

// Blind is the topic of the intervals in which a camera was not inspected.
func (o Origin) Blind(camera string) string { return o.vision(camera, "blind") }

// Snapshot is the topic of the JPEG whose SHA-256, in hex, is sum.
func (o Origin) Snapshot(camera, sum string) string { return o.vision(camera, "snapshot/"+sum) }

// Status is the retained topic of the appliance's presence.
func (o Origin) Status() string { return o.appliance("status") }

// Health is the retained topic of the appliance's health tree.
func (o Origin) Health() string { return o.appliance("health") }

// Canary is the topic whose round trip proves the link.
func (o Origin) Canary() string { return o.appliance("canary") }

// Reply is the topic of the answer to the command with the given id.
func (o Origin) Reply(id string) string { return o.appliance("reply/" + id) }

// Event is the topic of a normalised device event.
func (o Origin) Event(source, eventType string) string {
	return "events/" + o.Region + "/" + o.Site + "/" + source + "/" + eventType
}

// Command is the topic of the command with the given name.
func (o Origin) Command(name string) string {
	return "cmd/" + o.Region + "/" + o.Site + "/" + o.DeviceID + "/" + name
}

// PresenceClient is the client id of the small connection that holds the will
// of a camera's status topic; an empty camera means the appliance's own. A
// camera id cannot begin with an underscore, so the two never meet.
func (o Origin) PresenceClient(camera string) string {
	if camera == "" {
		camera = "_appliance"
	}
	return o.DeviceID + "." + camera
}

func (o Origin) vision(camera, leaf string) string {
	return "vision/" + o.Region + "/" + o.Site + "/" + camera + "/" + leaf
}

func (o Origin) appliance(leaf string) string {
	return "appliance/" + o.Region + "/" + o.Site + "/" + o.DeviceID + "/" + leaf
}
