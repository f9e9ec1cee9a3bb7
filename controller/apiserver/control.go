package apiserver

import (
	"context"
	"net/http"
	"time"

	"github.com/wiber/wiber/controller/proc"
	"github.com/wiber/wiber/manifests/v1alpha1"
)

func (s *server) routeControl(mux *http.ServeMux) {
	post := func(path string, do func(*http.Request) error, params ...string) {
		s.route(mux, path, methods{http.MethodPost: {s.acting(do), params}})
	}
	s.route(mux, "/cluster/nodes", methods{http.MethodGet: {s.nodeStates, nil}})
	post("/cluster/start", func(r *http.Request) error { return s.back.StartAll(r.Context(), cluster(r)) })
	post("/cluster/stop", func(r *http.Request) error { return s.back.StopAll(r.Context(), cluster(r)) })
	post("/cluster/node/{id}/kill", s.kill, "signal", "hold", "for")
	post("/cluster/node/{id}/restart", s.restart, "force")
	post("/cluster/node/{id}/stop", func(r *http.Request) error {
		return s.back.Stop(r.Context(), cluster(r), r.PathValue("id"))
	})
	post("/cluster/node/{id}/start", func(r *http.Request) error {
		return s.back.Start(r.Context(), cluster(r), r.PathValue("id"))
	})
	s.route(mux, "/cluster/shutdown", methods{http.MethodPost: {s.shutdown, []string{"purge"}}})
}

func cluster(r *http.Request) string { return r.URL.Query().Get("cluster") }

// acting makes a handler of an action: 200 and the nodes when it is done.
func (s *server) acting(do func(*http.Request) error) func(http.ResponseWriter, *http.Request) error {
	return func(w http.ResponseWriter, r *http.Request) error {
		patient(w)
		ctx, cancel := context.WithTimeout(r.Context(), actTimeout)
		defer cancel()
		if err := do(r.WithContext(ctx)); err != nil {
			return err
		}
		return s.nodeStates(w, r)
	}
}

// patient lifts the read deadline from a request whose work takes longer: when
// it passes, the request's context would end.
func patient(w http.ResponseWriter) {
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{}) // not every writer has one
}

func (s *server) nodeStates(w http.ResponseWriter, r *http.Request) error {
	states, err := s.back.NodeStates(cluster(r))
	if err != nil {
		return err
	}
	if states == nil {
		states = []NodeState{}
	}
	return answer(w, http.StatusOK, states)
}

func (s *server) kill(r *http.Request) error {
	name := "KILL"
	if r.URL.Query().Has("signal") {
		name = r.URL.Query().Get("signal")
	}
	sig, err := proc.ParseSignal(name)
	if err != nil {
		return v1alpha1.NewStatus(v1alpha1.ReasonBadRequest, "%v", err)
	}
	hold, err := flag(r, "hold")
	if err != nil {
		return err
	}
	d, err := holdTime(r)
	if err != nil {
		return err
	}
	switch {
	case d != 0 && r.URL.Query().Has("hold"):
		return v1alpha1.NewStatus(v1alpha1.ReasonBadRequest, "hold keeps a node down without an end, for with one: give only one of them")
	case d != 0 || hold:
		return s.back.Hold(r.Context(), cluster(r), r.PathValue("id"), sig, d)
	}
	return s.back.Kill(r.Context(), cluster(r), r.PathValue("id"), sig)
}

// maxHold is the longest hold with an end.
const maxHold = 365 * 24 * time.Hour

// holdTime reads ?for=30s; 0 if it is not there.
func holdTime(r *http.Request) (time.Duration, error) {
	if !r.URL.Query().Has("for") {
		return 0, nil
	}
	text := r.URL.Query().Get("for")
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 || d > maxHold {
		return 0, v1alpha1.NewStatus(v1alpha1.ReasonBadRequest, "for is %q; it is a duration such as 30s or 5m, above 0 and at most %s", text, maxHold)
	}
	return d, nil
}

func (s *server) restart(r *http.Request) error {
	force, err := flag(r, "force")
	if err != nil {
		return err
	}
	return s.back.Restart(r.Context(), cluster(r), r.PathValue("id"), force)
}

func (s *server) shutdown(w http.ResponseWriter, r *http.Request) error {
	purge, err := flag(r, "purge")
	if err != nil {
		return err
	}
	if cluster(r) != "" {
		return v1alpha1.NewStatus(v1alpha1.ReasonBadRequest, "a shutdown is about the whole controller; leave out cluster (a cluster alone goes with DELETE, or stops with /cluster/stop)")
	}
	patient(w)
	done, err := s.back.Shutdown(r.Context(), purge)
	if err != nil {
		return err
	}
	w.Header().Set("Connection", "close")
	return answer(w, http.StatusOK, done)
}
