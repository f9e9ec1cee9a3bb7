package apiserver

import (
	"context"
	"errors"
	"net/http"
	"net/http/httputil"
	"time"

	"github.com/wiber/wiber/manifests/v1alpha1"
	"github.com/wiber/wiber/topics/client"
	"github.com/wiber/wiber/topics/gateway"
)

const (
	// passTimeout bounds a request that is passed on to a node.
	passTimeout = 30 * time.Second
	// passHeaders is how long the node may take to begin its answer.
	passHeaders = 10 * time.Second
)

// newGateway returns the gateway to the messages of the clusters.
func (s *server) newGateway(wait time.Duration) *gateway.Gateway {
	return gateway.New(gateway.Options{
		Clock: s.clock, WriteWait: wait,
		Params: []string{"cluster"},
		Client: func(r *http.Request) (*client.Client, func(), error) { return s.back.Messages(cluster(r)) },
		Fail:   s.fail,
	})
}

func (s *server) routeGateway(mux *http.ServeMux) {
	s.gateway.RegisterList(mux)
	s.gateway.Register(mux)
	transport := &http.Transport{MaxIdleConnsPerHost: 4, IdleConnTimeout: time.Minute, ResponseHeaderTimeout: passHeaders, DisableCompression: true}
	mux.HandleFunc("/nodes/{id}/{path...}", func(w http.ResponseWriter, r *http.Request) {
		if err := s.pass(w, r, transport); err != nil {
			s.fail(w, r, err)
		}
	})
}

// pass hands a GET on to a node's own HTTP. Nothing else: what changes something
// is asked of the controller, which knows what else is going on.
func (s *server) pass(w http.ResponseWriter, r *http.Request, transport http.RoundTripper) error {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		return v1alpha1.NewStatus(v1alpha1.ReasonMethodNotAllowed, "only GET is passed on to a node")
	}
	if gateway.IsWebSocket(r) {
		return v1alpha1.NewStatus(v1alpha1.ReasonBadRequest, "WebSockets are not passed on to a node: /topics/{topic}/stream of the controller outlives any node")
	}
	id := r.PathValue("id")
	addr, err := s.back.NodeAddr(cluster(r), id)
	if err != nil {
		return err
	}
	patient(w)
	ctx, cancel := context.WithTimeout(r.Context(), passTimeout)
	defer cancel()
	var failed error
	proxy := &httputil.ReverseProxy{
		Transport: transport,
		Rewrite: func(p *httputil.ProxyRequest) {
			p.Out.URL.Scheme, p.Out.URL.Host, p.Out.Host = "http", addr, addr
			p.Out.URL.Path, p.Out.URL.RawPath = "/"+r.PathValue("path"), ""
			q := p.In.URL.Query()
			q.Del("cluster")
			p.Out.URL.RawQuery = q.Encode()
			p.Out.Header.Del("Origin") // it was this server's page
		},
		ModifyResponse: func(resp *http.Response) error { resp.Header.Set("Server", ServerName); return nil },
		ErrorHandler:   func(_ http.ResponseWriter, _ *http.Request, err error) { failed = err },
	}
	proxy.ServeHTTP(w, r.WithContext(ctx))
	switch {
	case failed == nil:
		return nil
	case errors.Is(failed, context.DeadlineExceeded):
		return v1alpha1.NewStatus(v1alpha1.ReasonTimeout, "node %s did not answer in %v", id, passTimeout)
	}
	return v1alpha1.NewStatus(v1alpha1.ReasonServiceUnavailable, "node %s does not answer: %v", id, failed)
}
