package web

import (
	"mime"
	"strconv"
	"strings"
)

// prefersJSON tells whether Accept headers (RFC 9110, section 12.5.1) rank application/json above text/html. A type that
// is named ranks above one that only a wildcard covers, so that "application/json, */*" means JSON.
func prefersJSON(accept []string) bool {
	json, html := rank{}, rank{}
	for _, part := range strings.Split(strings.Join(accept, ","), ",") {
		mediaType, params, err := mime.ParseMediaType(part)
		if err != nil {
			continue
		}
		q := 1.0
		if text, ok := params["q"]; ok {
			if q, err = strconv.ParseFloat(text, 64); err != nil {
				continue
			}
		}
		json.consider(mediaType, "application", "json", q)
		html.consider(mediaType, "text", "html", q)
	}
	if json.q != html.q {
		return json.q > html.q
	}
	return json.precision > html.precision
}

// rank is the weight of a media type and how precisely it was named: 1 by */*, 2 by type/*, 3 in full.
type rank struct {
	precision int
	q         float64
}

// consider takes over the weight q where mediaType covers kind/sub more precisely than what was seen before.
func (r *rank) consider(mediaType, kind, sub string, q float64) {
	precision := 0
	switch mediaType {
	case "*/*":
		precision = 1
	case kind + "/*":
		precision = 2
	case kind + "/" + sub:
		precision = 3
	}
	if precision > r.precision {
		*r = rank{precision, q}
	}
}
