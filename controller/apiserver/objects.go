package apiserver

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"

	"github.com/wiber/wiber/manifests"
	"github.com/wiber/wiber/manifests/v1alpha1"
)

func (s *server) routeObjects(mux *http.ServeMux) {
	get := func(kind string, f func(*http.Request) (any, error)) methods {
		return methods{http.MethodGet: s.watchable(f, of(kind))}
	}
	s.route(mux, apiPrefix+"clusters", get(v1alpha1.KindCluster, func(r *http.Request) (any, error) { return s.back.Clusters(cluster(r)) }))
	s.route(mux, apiPrefix+"nodes", get(v1alpha1.KindNode, func(r *http.Request) (any, error) { return s.back.Nodes(cluster(r)) }))
	s.route(mux, apiPrefix+"topics", get(v1alpha1.KindTopic, func(r *http.Request) (any, error) { return s.back.Topics(r.Context(), cluster(r)) }))

	clusters := get(v1alpha1.KindCluster, func(r *http.Request) (any, error) { return s.back.Cluster(r.PathValue("name")) })
	clusters[http.MethodPut] = method{s.putCluster, []string{"dryRun"}}
	clusters[http.MethodDelete] = method{s.deleteCluster, []string{"dryRun", "purge-data"}}
	s.route(mux, apiPrefix+"clusters/{name}", clusters)

	s.route(mux, apiPrefix+"nodes/{name}", get(v1alpha1.KindNode, func(r *http.Request) (any, error) {
		return s.back.Node(cluster(r), r.PathValue("name"))
	}))

	topics := get(v1alpha1.KindTopic, func(r *http.Request) (any, error) { return s.back.Topic(r.Context(), cluster(r), r.PathValue("name")) })
	topics[http.MethodPut] = method{s.putTopic, []string{"dryRun"}}
	topics[http.MethodDelete] = method{s.deleteTopic, []string{"dryRun", "allow-data-loss"}}
	s.route(mux, apiPrefix+"topics/{name}", topics)
}

func reading(f func(*http.Request) (any, error)) func(http.ResponseWriter, *http.Request) error {
	return func(w http.ResponseWriter, r *http.Request) error {
		ctx, cancel := context.WithTimeout(r.Context(), askTimeout)
		defer cancel()
		v, err := f(r.WithContext(ctx))
		if err != nil {
			return err
		}
		return answer(w, http.StatusOK, v)
	}
}

// object decodes the object of a PUT and checks that it is the one of the path.
func object(w http.ResponseWriter, r *http.Request, kind string) (v1alpha1.Object, error) {
	b, err := body(w, r)
	if err != nil {
		return nil, err
	}
	name := r.PathValue("name")
	o, err := manifests.DecodeObject(kind, b)
	var wrong manifests.Errors
	if errors.As(err, &wrong) {
		return nil, v1alpha1.Invalid(kind, name, wrong.Fields())
	}
	if err != nil {
		return nil, v1alpha1.NewStatus(v1alpha1.ReasonBadRequest, "%v", err)
	}
	if got := o.Meta().Name; got != name {
		return nil, v1alpha1.NewStatus(v1alpha1.ReasonBadRequest, "metadata.name is %q and the path says %q", got, name)
	}
	return o, nil
}

func (s *server) putCluster(w http.ResponseWriter, r *http.Request) error {
	dry, err := dryRun(r)
	if err != nil {
		return err
	}
	o, err := object(w, r, v1alpha1.KindCluster)
	if err != nil {
		return err
	}
	put, err := s.back.PutCluster(o.(*v1alpha1.Cluster), dry)
	if err != nil {
		return err
	}
	return answerPut(w, put)
}

func (s *server) putTopic(w http.ResponseWriter, r *http.Request) error {
	dry, err := dryRun(r)
	if err != nil {
		return err
	}
	o, err := object(w, r, v1alpha1.KindTopic)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), askTimeout)
	defer cancel()
	put, err := s.back.PutTopic(ctx, cluster(r), o.(*v1alpha1.Topic), dry)
	if err != nil {
		return err
	}
	return answerPut(w, put)
}

// answerPut answers 201 for a new object and 200 for an old one.
func answerPut(w http.ResponseWriter, put Put) error {
	w.Header().Set(ResultHeader, put.Result)
	for _, warning := range put.Warnings {
		w.Header().Add("Warning", "299 - "+strconv.Quote(strings.Map(printable, warning)))
	}
	status := http.StatusOK
	if put.Result == "created" {
		status = http.StatusCreated
	}
	return answer(w, status, put.Object)
}

func printable(r rune) rune {
	if r < ' ' || r > '~' {
		return '?'
	}
	return r
}

func (s *server) deleteCluster(w http.ResponseWriter, r *http.Request) error {
	purge, err := flag(r, "purge-data")
	if err != nil {
		return err
	}
	dry, err := dryRun(r)
	if err != nil {
		return err
	}
	patient(w)
	ctx, cancel := context.WithTimeout(r.Context(), actTimeout)
	defer cancel()
	name := r.PathValue("name")
	if err := s.back.DeleteCluster(ctx, name, purge, dry); err != nil {
		return err
	}
	return answer(w, http.StatusOK, v1alpha1.NewSuccess(v1alpha1.KindCluster, name))
}

func (s *server) deleteTopic(w http.ResponseWriter, r *http.Request) error {
	allow, err := flag(r, "allow-data-loss")
	if err != nil {
		return err
	}
	dry, err := dryRun(r)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), askTimeout)
	defer cancel()
	name := r.PathValue("name")
	if !v1alpha1.ValidTopicName(name) {
		return v1alpha1.NotFound(v1alpha1.KindTopic, name)
	}
	if err := s.back.DeleteTopic(ctx, cluster(r), name, allow, dry); err != nil {
		return err
	}
	return answer(w, http.StatusOK, v1alpha1.NewSuccess(v1alpha1.KindTopic, name))
}
