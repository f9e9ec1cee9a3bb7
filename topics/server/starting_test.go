package server

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestANodeThatHasNotJoinedSaysSo(t *testing.T) {
	drained := false
	door := Starting{
		Identity: func() Identity { return Identity{Node: "n1"} },
		NotReady: func() []string { return []string{"waiting for n2"} },
		Drain:    func() { drained = true },
	}.Handler()
	for _, c := range []struct {
		method, path, host string
		status             int
		body               string
	}{
		{"GET", "/healthz", "localhost", http.StatusOK, "ok"},
		{"GET", "/readyz", "localhost", http.StatusServiceUnavailable, "waiting for n2"},
		{"GET", "/v1/identity", "127.0.0.1:9301", http.StatusOK, `"node":"n1"`},
		{"GET", "/v1/topics/orders", "localhost", http.StatusServiceUnavailable, "not joined"},
		{"PUT", "/v1/topics/orders", "localhost", http.StatusServiceUnavailable, "not joined"},
		{"GET", "/healthz", "evil.example", http.StatusForbidden, "not served here"},
		{"POST", "/v1/drain", "localhost", http.StatusAccepted, "draining"},
	} {
		r := httptest.NewRequest(c.method, c.path, nil)
		r.Host = c.host
		w := httptest.NewRecorder()
		door.ServeHTTP(w, r)
		if w.Code != c.status || !strings.Contains(w.Body.String(), c.body) {
			t.Errorf("%s %s at %s: %d %s", c.method, c.path, c.host, w.Code, w.Body)
		}
		if c.status == http.StatusServiceUnavailable && w.Header().Get("Retry-After") == "" {
			t.Errorf("%s %s: no Retry-After", c.method, c.path)
		}
	}
	if !drained {
		t.Error("the drain was not passed on")
	}
}
