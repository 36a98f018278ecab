package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"outstation/uplink/wire"
)

// certNotice is how long before its end a client certificate is complained
// about.
const certNotice = 14 * 24 * time.Hour

// connectedCheck is what there is to say about a link that stands.
func connectedCheck(f facts) wire.Check {
	l := f.link
	left := l.CertExpires.Sub(f.now)
	switch {
	case l.FilesError != "":
		return check("uplink", wire.Impaired, "the files with the credentials cannot be used, those of before still are: "+l.FilesError)
	case !l.CertExpires.IsZero() && left <= 0:
		return check("uplink", wire.Impaired, "the client certificate has expired; the next connection will be refused")
	case !l.CertExpires.IsZero() && left < certNotice:
		return check("uplink", wire.Impaired, fmt.Sprintf("the client certificate expires on %s", l.CertExpires.UTC().Format(time.DateOnly)))
	case l.TakenOver():
		return check("uplink", wire.Impaired, fmt.Sprintf("connected to %s, but it closed %d connections in a row soon after they were made: another client may use the same client id, such as a second appliance with this device_id", l.Broker, l.SoonClosed))
	case l.Down.Error != "":
		return check("uplink", wire.Impaired, "the local broker does not take what the centre sends: "+l.Down.Error)
	case len(l.Down.Denied) > 0:
		filters := slices.Sorted(maps.Keys(l.Down.Denied))
		return check("uplink", wire.Impaired, fmt.Sprintf("the centre does not let us subscribe to %s: %s", strings.Join(filters, ", "), l.Down.Denied[filters[0]]))
	}
	detail := "connected to " + l.Broker
	if l.PreferredError != "" {
		detail += "; the preferred one cannot be reached: " + l.PreferredError
	}
	return check("uplink", wire.Healthy, detail)
}

// lostText says what a centre that cannot be reached means for what comes in,
// and last why it cannot be: the address and the error.
func lostText(f facts) string {
	l := f.link
	text := "the centre has not been reached yet"
	if l.Generation > 0 {
		text = "the centre cannot be reached since " + l.Since.UTC().Format("15:04 UTC")
		if f.now.Sub(l.Since) > 12*time.Hour {
			text = "the centre cannot be reached since " + l.Since.UTC().Format("2006-01-02 15:04 UTC")
		}
	}
	text += fmt.Sprintf("; events are kept here (records: %d)", f.queue.Queued.Records)
	switch {
	case f.queue.Refusing != nil:
		text += ", but there is no room for more"
	case f.queue.Room > 0:
		text += ", with room for " + roughly(f.queue.Room) + " at the present rate"
	}
	if l.Reason != "" {
		text += ": " + l.Reason
	}
	return text
}

// roughly writes an estimate with as much precision as it has.
func roughly(d time.Duration) string {
	switch {
	case d < time.Minute:
		return "less than a minute"
	case d < 90*time.Minute:
		return fmt.Sprintf("about %.0f minutes", d.Minutes())
	case d < 48*time.Hour:
		return fmt.Sprintf("about %.0f hours", d.Hours())
	case d < 1000*24*time.Hour:
		return fmt.Sprintf("about %.0f days", d.Hours()/24)
	}
	return "years"
}
