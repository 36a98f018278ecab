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
