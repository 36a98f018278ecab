package access

import "strings"

// next takes the first level off a topic or filter.
func next(s string) (level, rest string, more bool) { return strings.Cut(s, "/") }

// wild reports whether a filter begins with a wildcard, which does not stand
// for a first level that begins with $ (section 4.7.2 of both specifications).
func wild(filter string) bool {
	return strings.HasPrefix(filter, "+") || strings.HasPrefix(filter, "#")
}

// Matches reports whether a topic is one of a filter's.
func Matches(filter, topic string) bool {
	if wild(filter) && strings.HasPrefix(topic, "$") {
		return false
	}
	return Contains(filter, topic)
}

// Contains reports whether every topic of one filter is one of another's. It
// may say no where single levels of wildcards only together hold them.
func Contains(outer, inner string) bool {
	if wild(outer) && strings.HasPrefix(inner, "$") {
		return false
	}
	for {
		o, oRest, oMore := next(outer)
		i, iRest, iMore := next(inner)
		switch {
		case o == "#":
			return true
		case i == "#" || (o != "+" && o != i):
			return false
		case !iMore:
			return !oMore || oRest == "#" // a/# is also a
		case !oMore:
			return false
		}
		outer, inner = oRest, iRest
	}
}

// Overlaps reports whether a topic can be one of both filters'.
func Overlaps(a, b string) bool {
	if (wild(a) && strings.HasPrefix(b, "$")) || (wild(b) && strings.HasPrefix(a, "$")) {
		return false
	}
	for {
		x, xRest, xMore := next(a)
		y, yRest, yMore := next(b)
		switch {
		case x == "#" || y == "#":
			return true
		case x != "+" && y != "+" && x != y:
			return false
		case !xMore && !yMore:
			return true
		case !xMore:
			return yRest == "#"
		case !yMore:
			return xRest == "#"
		}
		a, b = xRest, yRest
	}
}
