package apiserver

import (
	"net/http"
	"strings"

	"github.com/wiber/wiber/manifests/v1alpha1"
)

func (s *server) routeEvents(mux *http.ServeMux) {
	list := methods{http.MethodGet: s.watchable(s.events, func(r *http.Request) (WatchOptions, error) {
		object, err := involved(r)
		return WatchOptions{Kind: v1alpha1.KindEvent, Object: object}, err
	}, "for")}
	s.route(mux, apiPrefix+"events", list)
	s.route(mux, "/events", list)
	s.route(mux, apiPrefix+"events/{name}", methods{http.MethodGet: s.watchable(func(r *http.Request) (any, error) {
		return s.back.Event(cluster(r), r.PathValue("name"))
	}, of(v1alpha1.KindEvent))})
}

func (s *server) events(r *http.Request) (any, error) {
	object, err := involved(r)
	if err != nil {
		return nil, err
	}
	return s.back.Events(cluster(r), object)
}

// involved reads ?for=node/n2; no kind means every object.
func involved(r *http.Request) (o v1alpha1.ObjectReference, err error) {
	v := r.URL.Query().Get("for")
	if v == "" && !r.URL.Query().Has("for") {
		return o, nil
	}
	word, name, ok := strings.Cut(v, "/")
	kind, known := v1alpha1.KindOf(word)
	if !ok || name == "" || !known {
		return o, v1alpha1.NewStatus(v1alpha1.ReasonBadRequest, "for is %q; it is a kind and a name, as in node/n2", v)
	}
	return v1alpha1.ObjectReference{Kind: kind, Name: name}, nil
}
