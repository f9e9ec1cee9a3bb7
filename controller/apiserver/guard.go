package apiserver

import (
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"github.com/wiber/wiber/manifests/v1alpha1"
)

// guard keeps pages of other sites away: by DNS rebinding a browser can be made
// to send them here under their own name (Host), and it sends forms anywhere
// (Origin).
type guard struct{ hosts map[string]bool }

// newGuard allows the host of the listen address, loopback names, and more.
func newGuard(listen string, more []string) guard {
	g := guard{hosts: map[string]bool{}}
	if host, _, err := net.SplitHostPort(listen); err == nil {
		g.hosts[strings.ToLower(host)] = true
	}
	for _, h := range more {
		g.hosts[strings.ToLower(strings.Trim(h, "[]"))] = true
	}
	return g
}

// check says why a request is refused, if it is.
func (g guard) check(r *http.Request) error {
	if !g.allows(r.Host) {
		return v1alpha1.NewStatus(v1alpha1.ReasonForbidden, "the host %q is not served here; --allowed-hosts allows more", r.Host)
	}
	for _, origin := range r.Header.Values("Origin") {
		if u, err := url.Parse(origin); err != nil || u.Host == "" || !g.allows(u.Host) || !sameHost(u, r) {
			return v1alpha1.NewStatus(v1alpha1.ReasonForbidden, "requests of pages of %q are not served here", origin)
		}
	}
	// A browser that sends no Origin says at least where a request that may change
	// something comes from.
	if site := r.Header.Get("Sec-Fetch-Site"); site != "" && site != "same-origin" && site != "none" && r.Method != http.MethodGet && r.Method != http.MethodHead {
		return v1alpha1.NewStatus(v1alpha1.ReasonForbidden, "requests of pages of other sites (%s) are not served here", strconv.Quote(site))
	}
	return nil
}

// sameHost says that a page was served by this server: same host and port.
func sameHost(origin *url.URL, r *http.Request) bool {
	return strings.EqualFold(withPort(origin.Host, origin.Scheme), withPort(r.Host, "http"))
}

func withPort(host, scheme string) string {
	if _, _, err := net.SplitHostPort(host); err == nil {
		return host
	}
	port := "80"
	if scheme == "https" {
		port = "443"
	}
	return net.JoinHostPort(strings.Trim(host, "[]"), port)
}

func (g guard) allows(hostport string) bool {
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
	}
	host = strings.ToLower(strings.Trim(host, "[]"))
	if host == "localhost" || g.hosts[host] {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}
