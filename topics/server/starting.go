package server

import "net/http"

// Starting is the HTTP door of a node that has not joined its cluster yet: it
// says who it is and what it waits for. Everything else is answered with 503, so
// that nobody takes "not yet" for "not there".
type Starting struct {
	// Identity is the answer of /v1/identity.
	Identity func() Identity
	// NotReady returns what the node waits for, one reason a line.
	NotReady func() []string
	// Drain ends the node.
	Drain func()
	// AllowedHosts is that of Options.
	AllowedHosts []string
}

// Handler returns the door. It may be used concurrently.
func (s Starting) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/healthz", methods{"GET": getHealth})
	mux.Handle("/readyz", methods{"GET": func(w http.ResponseWriter, _ *http.Request) { writeReady(w, s.NotReady()) }})
	mux.Handle("/v1/identity", methods{"GET": func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, s.Identity())
	}})
	mux.Handle("/v1/drain", methods{"POST": func(w http.ResponseWriter, _ *http.Request) {
		s.Drain()
		writeJSON(w, http.StatusAccepted, map[string]string{"status": "draining"})
	}})
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "1")
		writeError(w, http.StatusServiceUnavailable, codeNotReady, "this node has not joined its cluster yet: try again")
	})
	return (&Server{opts: Options{AllowedHosts: s.AllowedHosts}}).guard(mux)
}
