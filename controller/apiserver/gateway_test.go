package apiserver

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// What a node says about itself is read through the controller, by the same page
// and under the same checks; nothing that changes something is passed on.
func TestGetsArePassedOnToNodes(t *testing.T) {
	node := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Origin") != "" || !strings.HasPrefix(r.Host, "127.0.0.1:") {
			t.Errorf("the node is asked with Host %q, Origin %q", r.Host, r.Header.Get("Origin"))
		}
		if r.URL.Path == "/gone" {
			w.WriteHeader(http.StatusTeapot)
		}
		fmt.Fprintf(w, "%s %s", r.Method, r.URL)
	}))
	defer node.Close()
	back := &fakeBackend{addr: strings.TrimPrefix(node.URL, "http://")}
	web := httptest.NewServer(Handler(Options{Backend: back}))
	defer web.Close()

	ask := func(method, path string, header ...string) (int, string, http.Header) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, web.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(b), resp.Header
	}
	for _, c := range []struct {
		method, path string
		header       []string
		status       int
		body         string
	}{
		{"GET", "/nodes/n1/v1/status", nil, 200, "GET /v1/status"},
		{"GET", "/nodes/n1/v1/status", []string{"Origin", web.URL}, 200, "GET /v1/status"},
		{"GET", "/nodes/n1/topics/a%20b?x=1&cluster=demo", nil, 200, "GET /topics/a%20b?x=1"},
		{"GET", "/nodes/n1/gone", nil, 418, "GET /gone"},
		{"POST", "/nodes/n1/v1/drain", nil, 405, `"METHOD_NOT_ALLOWED"`},
		{"DELETE", "/nodes/n1/v1/topics/t", nil, 405, `"METHOD_NOT_ALLOWED"`},
		{"GET", "/nodes/n9/v1/status", nil, 404, `nodes \"n9\" not found`},
		{"GET", "/nodes/n1/v1/status", []string{"Origin", "http://evil.example"}, 403, "evil.example"},
		{"GET", "/nodes/n1/topics/t/stream", []string{"Connection", "Upgrade", "Upgrade", "websocket"}, 400, "/topics/{topic}/stream"},
		{"POST", "/topics/t/messages", nil, 404, "not found"},
		{"GET", "/topics?cluster=demo", nil, 404, "not found"},
	} {
		status, body, _ := ask(c.method, c.path, c.header...)
		if status != c.status || !strings.Contains(body, c.body) {
			t.Errorf("%s %s: %d %s, want %d %s", c.method, c.path, status, body, c.status, c.body)
		}
	}
	if _, _, header := ask("GET", "/nodes/n1/v1/status"); header.Get("Server") != ServerName {
		t.Errorf("the answer comes from %q", header.Get("Server"))
	}
	node.Close()
	if status, body, _ := ask("GET", "/nodes/n1/v1/status"); status != 503 || !strings.Contains(body, "node n1 does not answer") {
		t.Errorf("a dead node: %d %s", status, body)
	}
}
