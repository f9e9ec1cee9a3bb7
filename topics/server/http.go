package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/wiber/wiber/manifests"
	"github.com/wiber/wiber/manifests/v1alpha1"
	"github.com/wiber/wiber/topics/gateway"
	"github.com/wiber/wiber/topics/wire"
)

// Codes of HTTP errors that the text protocol does not have.
const (
	codeNotFound = "NOT_FOUND" // no such path
	codeMethod   = "METHOD_NOT_ALLOWED"
	codeConflict = "CONFLICT" // the change is refused, with the reason
	codeNotReady = "NOT_READY"
)

const (
	maxBody      = 256 << 10 // of a Topic object
	changeWithin = 10 * time.Second
)

// Handler returns the node's HTTP. It may be used for any number of requests.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/healthz", methods{"GET": getHealth})
	mux.Handle("/readyz", methods{"GET": s.getReady})
	mux.Handle("/metrics", methods{"GET": s.metrics.handler.ServeHTTP})
	mux.Handle("/v1/status", methods{"GET": s.getStatus})
	mux.Handle("/v1/identity", methods{"GET": s.getIdentity})
	mux.Handle("/topics", methods{"GET": s.getTopics})
	s.inside.gateway.Register(mux)
	mux.Handle("/v1/topics", methods{"GET": s.getTopicObjects})
	mux.Handle("/v1/topics/{topic}", methods{
		"GET": s.getTopicObject, "PUT": s.putTopic, "DELETE": s.deleteTopic,
	})
	mux.Handle("/v1/drain", methods{"POST": s.postDrain})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		writeError(w, http.StatusNotFound, codeNotFound, "no "+r.URL.Path+" here")
	})
	return s.guard(mux)
}

// guard keeps out what a foreign web page could send through a browser on this
// machine, and keeps faults from the client's eyes.
func (s *Server) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			switch v := recover(); v {
			case nil:
			case http.ErrAbortHandler:
				panic(v) // cuts the connection: a part must not be taken for the whole
			default:
				s.log.Error("a request made the node panic", "err", v, "stack", string(debug.Stack()))
				writeError(w, http.StatusInternalServerError, string(wire.Internal), "internal error; the node's log says more")
			}
		}()
		if !s.hostAllowed(r) {
			writeError(w, http.StatusForbidden, string(wire.Denied), "host "+strconv.Quote(r.Host)+" is not served here; --allowed-hosts adds hosts")
			return
		}
		if !sameOrigin(r) {
			writeError(w, http.StatusForbidden, string(wire.Denied), "requests from other web sites are not taken")
			return
		}
		next.ServeHTTP(w, r)
	})
}

// hostAllowed says whether Host is a loopback name, the address that the client
// connected to, or one of AllowedHosts.
func (s *Server) hostAllowed(r *http.Request) bool {
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.Trim(strings.TrimSuffix(strings.ToLower(host), "."), "[]")
	if host == "localhost" || slices.ContainsFunc(s.opts.AllowedHosts, func(a string) bool { return strings.EqualFold(a, host) }) {
		return true
	}
	ip := net.ParseIP(host)
	if ip == nil {
		return false
	}
	if ip.IsLoopback() {
		return true
	}
	local, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	return ok && local.IP.Equal(ip)
}

// sameOrigin says whether the request comes from no web page, or from one that
// this very address served.
func sameOrigin(r *http.Request) bool {
	origin := r.Header.Get("Origin")
	if origin == "" {
		return true
	}
	u, err := url.Parse(origin)
	return err == nil && u.Host != "" && strings.EqualFold(u.Host, r.Host)
}

// methods is what a path does for each method; HEAD is a GET without its body.
type methods map[string]func(http.ResponseWriter, *http.Request)

// ServeHTTP implements http.Handler.
func (m methods) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	method := r.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	if f := m[method]; f != nil {
		f(w, r)
		return
	}
	var allowed []string
	for name := range m {
		allowed = append(allowed, name)
	}
	slices.Sort(allowed)
	w.Header().Set("Allow", strings.Join(allowed, ", "))
	writeError(w, http.StatusMethodNotAllowed, codeMethod, r.URL.Path+" takes "+strings.Join(allowed, ", "))
}

func getHealth(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, map[string]string{"status": "ok"})
}

func (s *Server) getReady(w http.ResponseWriter, _ *http.Request) {
	writeReady(w, s.backend.NotReady())
}

func writeReady(w http.ResponseWriter, why []string) {
	if len(why) > 0 {
		w.Header().Set("Retry-After", "1")
		writeError(w, http.StatusServiceUnavailable, codeNotReady, strings.Join(why, "; "))
		return
	}
	writeJSON(w, http.StatusOK, map[string]string{"status": "ready"})
}

func (s *Server) getStatus(w http.ResponseWriter, _ *http.Request) {
	status := s.backend.Status()
	if status.Groups == nil {
		status.Groups = []GroupStatus{}
	}
	if status.Gossip == nil {
		status.Gossip = []GossipState{}
	}
	if status.Links == nil {
		status.Links = []LinkState{}
	}
	writeJSON(w, http.StatusOK, status)
}

func (s *Server) getIdentity(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, s.backend.Identity())
}

// postDrain answers when the drain has begun; the process ends afterwards.
func (s *Server) postDrain(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), changeWithin)
	defer cancel()
	if err := s.backend.Drain(ctx); err != nil {
		s.writeProblem(w, err)
		return
	}
	writeJSON(w, http.StatusAccepted, map[string]string{"status": "draining"})
}

// topicView is a topic in the answer of /topics.
type topicView struct {
	Name       string          `json:"name"`
	Partitions []partitionView `json:"partitions"`
}

type partitionView struct {
	Partition uint32 `json:"partition"`
	Shard     uint32 `json:"shard"`
	Leader    string `json:"leader"` // "" while there is none
	First     uint64 `json:"first"`
	Next      uint64 `json:"next"`
}

func (s *Server) getTopics(w http.ResponseWriter, _ *http.Request) {
	out := newList(w, "[", "]\n")
	defer out.close()
	s.eachTopic(func(t *Topic) bool {
		view := topicView{Name: t.Name, Partitions: make([]partitionView, 0, t.Partitions)}
		for p := range t.Partitions {
			first, next, err := s.backend.Bounds(Stream{t.UID, p})
			if err != nil {
				return true // gone meanwhile
			}
			shard := s.backend.Shard(t.UID, p)
			view.Partitions = append(view.Partitions, partitionView{p, shard, s.backend.Leader(ShardGroup(shard)), first, next})
		}
		return out.add(view)
	})
}

func (s *Server) getTopicObjects(w http.ResponseWriter, _ *http.Request) {
	list := v1alpha1.NewList(v1alpha1.KindTopic, []v1alpha1.Topic{})
	// Before the topics are read, so that the list shows at least all up to it.
	list.Metadata.ResourceVersion = strconv.FormatUint(s.backend.CatalogueVersion(), 10)
	head, _ := json.Marshal(list)
	head = bytes.TrimSuffix(head, []byte("]}"))
	out := newList(w, string(head), "]}\n")
	defer out.close()
	s.eachTopic(func(t *Topic) bool {
		object, ok := s.backend.TopicObject(t.Name)
		return !ok || out.add(object)
	})
}

// eachTopic goes through the topics, page by page, until f returns false.
func (s *Server) eachTopic(f func(*Topic) bool) {
	const page = 256
	for after := ""; ; {
		list := s.backend.Topics(after, page)
		for _, t := range list {
			if !f(t) {
				return
			}
		}
		if len(list) == 0 {
			return
		}
		after = list[len(list)-1].Name
	}
}

func (s *Server) getTopicObject(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("topic")
	object, ok := s.backend.TopicObject(name)
	if !ok {
		s.writeProblem(w, wire.Errorf(wire.NoTopic, "no topic %s", name))
		return
	}
	writeJSON(w, http.StatusOK, object)
}

// putTopic takes the spec of a topic, or a whole Topic object, whose annotations
// are then stored too.
func (s *Server) putTopic(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("topic")
	if err := wire.CheckTopicName(name); err != nil {
		s.writeProblem(w, err)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		s.writeProblem(w, bodyError(err))
		return
	}
	object, err := decodeTopic(name, body)
	if err != nil {
		s.writeProblem(w, err)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), changeWithin)
	defer cancel()
	after, effect, err := s.backend.PutTopic(ctx, object)
	if err != nil {
		s.writeProblem(w, err)
		return
	}
	w.Header().Set("Wiber-Result", string(effect))
	code := http.StatusOK
	if effect == Created {
		code = http.StatusCreated
	}
	writeJSON(w, code, after)
}

func decodeTopic(name string, body []byte) (*v1alpha1.Topic, error) {
	var parts map[string]json.RawMessage
	if err := json.Unmarshal(body, &parts); err != nil {
		return nil, wire.Errorf(wire.Syntax, "the body is not a JSON object: %v", err)
	}
	if parts["spec"] == nil && parts["kind"] == nil {
		spec, err := manifests.DecodeTopicSpec(body)
		if err != nil {
			return nil, wire.Errorf(wire.Syntax, "%v", err)
		}
		object := v1alpha1.NewTopic()
		object.Name, object.Spec = name, spec
		return object, nil
	}
	decoded, err := manifests.DecodeObject(v1alpha1.KindTopic, body)
	if err != nil {
		return nil, wire.Errorf(wire.Syntax, "%v", err)
	}
	object := decoded.(*v1alpha1.Topic)
	if object.Name != name {
		return nil, wire.Errorf(wire.Syntax, "metadata.name: is %q, but the path says %q", object.Name, name)
	}
	return object, nil
}

func (s *Server) deleteTopic(w http.ResponseWriter, r *http.Request) {
	allow := false
	if v := r.URL.Query().Get("allow-data-loss"); v != "" {
		var err error
		if allow, err = strconv.ParseBool(v); err != nil {
			s.writeProblem(w, wire.Errorf(wire.Syntax, "allow-data-loss=%q is not true or false", v))
			return
		}
	}
	ctx, cancel := context.WithTimeout(r.Context(), changeWithin)
	defer cancel()
	if err := s.backend.DeleteTopic(ctx, r.PathValue("topic"), allow); err != nil {
		s.writeProblem(w, err)
		return
	}
	writeJSON(w, http.StatusOK, struct{}{})
}

func bodyError(err error) error {
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		return wire.Errorf(wire.TooLarge, "the body has more than %d bytes", large.Limit)
	}
	return wire.Errorf(wire.Syntax, "the body ended early")
}

// writeProblem answers with what a Backend returned for a change.
func (s *Server) writeProblem(w http.ResponseWriter, err error) {
	var refused *RefusedError
	if errors.As(err, &refused) {
		writeError(w, http.StatusConflict, codeConflict, refused.Reason)
		return
	}
	gateway.Answer(w, s.problem(err, wire.Timeout))
}

func writeError(w http.ResponseWriter, status int, code, message string) {
	type body struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	}
	writeJSON(w, status, map[string]body{"error": {code, message}})
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	_ = e.Encode(v) // the client left
}

// list writes a JSON list of any length without holding it.
type list struct {
	w         http.ResponseWriter
	tail, sep string
	failed    bool
}

func newList(w http.ResponseWriter, head, tail string) *list {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	l := &list{w: w, tail: tail}
	l.write([]byte(head))
	return l
}

// add writes one item; false: the client left.
func (l *list) add(v any) bool {
	item, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	l.write([]byte(l.sep))
	l.write(item)
	l.sep = ","
	return !l.failed
}

func (l *list) close() { l.write([]byte(l.tail)) }

func (l *list) write(p []byte) {
	if _, err := l.w.Write(p); err != nil {
		l.failed = true
	}
}
