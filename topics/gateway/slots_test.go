package gateway

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/wiber/wiber/timesvc"
	"github.com/wiber/wiber/topics/client"
	"github.com/wiber/wiber/topics/wire"
)

// As many requests as there are places run at the same time; one more is told to
// try again, and a place that is given back is taken again.
func TestMoreThanThereArePlacesForIsBusy(t *testing.T) {
	inside, out := make(chan struct{}), make(chan struct{})
	g := New(Options{
		Clock: timesvc.NewSystem(timesvc.Skew{}), MaxPublishes: 1, MaxReads: 1,
		Client: func(*http.Request) (*client.Client, func(), error) {
			inside <- struct{}{}
			<-out
			return nil, nil, wire.Errorf(wire.Internal, "enough")
		},
	})
	mux := http.NewServeMux()
	g.Register(mux)
	g.RegisterList(mux)
	ask := func(method, path string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader("x")))
		return w
	}
	for _, c := range []struct{ method, path, other string }{
		{http.MethodPost, "/topics/t/messages", "/topics/u/messages"},
		{http.MethodGet, "/topics/t/messages", "/topics"},
		{http.MethodGet, "/topics", "/topics/t/messages"},
	} {
		for range 2 {
			done := make(chan int)
			go func() { done <- ask(c.method, c.path).Code }()
			<-inside
			w := ask(c.method, c.other)
			if w.Code != http.StatusServiceUnavailable || !strings.Contains(w.Body.String(), "BUSY") || w.Header().Get("Retry-After") == "" {
				t.Errorf("%s %s beside %s: %d %s", c.method, c.other, c.path, w.Code, w.Body)
			}
			out <- struct{}{}
			if code := <-done; code != http.StatusInternalServerError {
				t.Errorf("%s %s: %d", c.method, c.path, code)
			}
		}
	}
}
