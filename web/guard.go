package web

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// contentPolicy lets the page load its own files and nothing else, and run no script that is written into it.
const contentPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// secureHeaders sets what every answer carries. Only the embedded assets may be kept by caches, and say so themselves.
func secureHeaders(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", contentPolicy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		next.ServeHTTP(w, r)
	})
}

// guardHost refuses requests for a host that is not this one. Without a login, a foreign site whose name resolves to
// this address (DNS rebinding) could otherwise read the page with the browser of whoever visits that site.
func (s *Server) guardHost(next http.Handler) http.Handler {
	allowed := []string{"localhost"}
	if host, _, err := net.SplitHostPort(s.options.Listen); err == nil && host != "" {
		allowed = append(allowed, strings.ToLower(host))
	}
	for _, h := range s.options.Hosts {
		allowed = append(allowed, strings.ToLower(h))
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := hostName(r.Host)
		if _, err := netip.ParseAddr(host); err != nil && !slices.Contains(allowed, host) {
			message := fmt.Sprintf("expected a request for an IP address or one of %s, got one for %q; web.hosts lists more names",
				strings.Join(allowed, ", "), host)
			s.writeJSON(w, http.StatusMisdirectedRequest, failure{message})
			return
		}
		next.ServeHTTP(w, r)
	})
}

// guardPosts lets what changes something in from this machine only.
func (s *Server) guardPosts(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !fromThisMachine(r) && r.Method != http.MethodGet && r.Method != http.MethodHead {
			s.writeJSON(w, http.StatusForbidden, failure{"there is no login: changes are taken from this machine only"})
			return
		}
		next.ServeHTTP(w, r)
	})
}

func fromThisMachine(r *http.Request) bool {
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	return err == nil && from.Addr().Unmap().IsLoopback()
}

// hostName returns the host of a Host header in lower case, without port, brackets and the root's dot.
func hostName(header string) string {
	host := header
	if h, _, err := net.SplitHostPort(header); err == nil {
		host = h
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	return strings.ToLower(strings.TrimSuffix(host, "."))
}
