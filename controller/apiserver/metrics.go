package apiserver

import (
	"bufio"
	"cmp"
	"net"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/wiber/wiber/manifests/v1alpha1"
	"github.com/wiber/wiber/timesvc"
)

// Metrics are what the controller counted since it started.
type Metrics struct {
	Version string
	Passes  []PassMetrics
	Events  []EventMetrics
}

// PassMetrics are the passes over keys of one kind, "cluster" or "node".
type PassMetrics struct {
	Kind           string
	Passes, Failed uint64
	Time           time.Duration // of all
}

// EventMetrics are the events of one reason: each time that one happened, also
// where it only made an older one count up.
type EventMetrics struct {
	Type   v1alpha1.EventType
	Reason string
	Events uint64
}

// metrics are what /metrics shows of the controller. Requests are counted as they
// end; everything else is read when somebody asks. Labels are bounded: a path is
// its pattern, what has none is otherPath. docs/metrics.md lists them.
type metrics struct {
	handler  http.Handler
	clock    timesvc.Clock
	requests *prometheus.CounterVec
	latency  *prometheus.HistogramVec
}

// otherPath and otherMethod stand for paths and methods that there are not.
const (
	otherPath   = "other"
	otherMethod = "OTHER"
)

var knownMethods = []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodPatch, http.MethodOptions}

func newMetrics(s *server) *metrics {
	m := &metrics{
		clock: s.clock,
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "wiber_controller_requests_total", Help: "HTTP requests that were answered, by the pattern of their path.",
		}, []string{"method", "path", "status"}),
		latency: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "wiber_controller_request_seconds", Help: "From a request to the end of its answer, streams and watches excepted.",
			Buckets: prometheus.ExponentialBuckets(0.001, 4, 9),
		}, []string{"path"}),
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(m.requests, m.latency, &scrape{s}, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.handler = promhttp.HandlerFor(registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4, Timeout: askTimeout})
	return m
}

// count answers a request of a path's pattern by serve, and counts it.
func (m *metrics) count(w http.ResponseWriter, r *http.Request, path string, serve func(http.ResponseWriter, *http.Request)) {
	method := r.Method
	if !slices.Contains(knownMethods, method) {
		method = otherMethod
	}
	c := &counted{ResponseWriter: w, status: http.StatusOK}
	began := m.clock.Mono()
	serve(c, r)
	m.requests.WithLabelValues(method, path, strconv.Itoa(c.status)).Inc()
	if !c.stream {
		m.latency.WithLabelValues(path).Observe((m.clock.Mono() - began).Seconds())
	}
}

func (s *server) getMetrics(w http.ResponseWriter, r *http.Request) error {
	s.metrics.handler.ServeHTTP(w, r)
	return nil
}

// counted is a ResponseWriter that remembers what was answered. It can do what
// the one below can: flush, be hijacked, and the rest by Unwrap.
type counted struct {
	http.ResponseWriter
	status int
	said   bool // the status was written
	stream bool // the answer goes on after its beginning
}

// WriteHeader implements http.ResponseWriter.
func (c *counted) WriteHeader(status int) {
	if !c.said && status >= http.StatusOK {
		c.status, c.said = status, true
	}
	c.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (c *counted) Write(b []byte) (int, error) {
	c.said = true
	return c.ResponseWriter.Write(b)
}

// Unwrap lets an http.ResponseController find what else the writer can do.
func (c *counted) Unwrap() http.ResponseWriter { return c.ResponseWriter }

// FlushError flushes for an http.ResponseController: who flushes has more to say.
func (c *counted) FlushError() error {
	c.stream = true
	return http.NewResponseController(c.ResponseWriter).Flush()
}

// Hijack implements http.Hijacker, for WebSockets.
func (c *counted) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(c.ResponseWriter).Hijack()
	if err == nil {
		c.status, c.said, c.stream = http.StatusSwitchingProtocols, true, true
	}
	return conn, rw, err
}

// scrape reads what the controller knows when somebody asks for it.
type scrape struct{ s *server }

var (
	descInfo      = prometheus.NewDesc("wiber_controller_info", "1; the label has the controller's version.", []string{"version"}, nil)
	descStreams   = prometheus.NewDesc("wiber_controller_streams", "Watches, followed logs and subscriptions that are open.", nil, nil)
	descPasses    = prometheus.NewDesc("wiber_controller_reconcile_seconds", "Passes that compare what is wanted with what is seen, and act: how many, and how long they took together.", []string{"kind"}, nil)
	descFailed    = prometheus.NewDesc("wiber_controller_reconcile_errors_total", "Passes that failed and are tried again.", []string{"kind"}, nil)
	descEvents    = prometheus.NewDesc("wiber_controller_events_total", "What happened to clusters, nodes and topics since the controller started.", []string{"type", "reason"}, nil)
	descNodes     = prometheus.NewDesc("wiber_controller_nodes", "Nodes of a cluster by phase.", []string{"cluster", "phase"}, nil)
	descHeld      = prometheus.NewDesc("wiber_controller_nodes_held", "Nodes that a hold keeps down.", []string{"cluster"}, nil)
	descReady     = prometheus.NewDesc("wiber_controller_node_ready", "1 if the node is ready, else 0.", []string{"cluster", "node"}, nil)
	descRestarts  = prometheus.NewDesc("wiber_controller_node_restarts_total", "Starts that followed an end nobody asked for.", []string{"cluster", "node"}, nil)
	descCondition = prometheus.NewDesc("wiber_controller_cluster_condition", "1 if the condition is True, 0 if it is False, -1 if that is unknown.", []string{"cluster", "condition"}, nil)
)

// Describe implements prometheus.Collector.
func (c *scrape) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descInfo, descStreams, descPasses, descFailed, descEvents, descNodes, descHeld, descReady, descRestarts, descCondition} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (c *scrape) Collect(out chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	counter := func(d *prometheus.Desc, v uint64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	m := c.s.back.Metrics()
	gauge(descInfo, 1, m.Version)
	gauge(descStreams, float64(c.s.streams.Len()+c.s.gateway.Streams()))
	for _, p := range m.Passes {
		out <- prometheus.MustNewConstSummary(descPasses, p.Passes, p.Time.Seconds(), nil, p.Kind)
		counter(descFailed, p.Failed, p.Kind)
	}
	for _, e := range m.Events {
		counter(descEvents, e.Events, string(e.Type), e.Reason)
	}
	clusters, err := c.s.back.Clusters("")
	if err != nil {
		out <- prometheus.NewInvalidMetric(descCondition, err)
		return
	}
	for i := range clusters.Items {
		cl := &clusters.Items[i]
		for _, condition := range cl.Status.Conditions {
			gauge(descCondition, truth(condition.Status), cl.Name, condition.Type)
		}
		if err := c.collectNodes(gauge, counter, cl.Name); err != nil {
			out <- prometheus.NewInvalidMetric(descNodes, err)
		}
	}
}

// collectNodes shows the nodes of a cluster; every phase, so that one that no
// node is in any more falls to 0 instead of ending.
func (c *scrape) collectNodes(gauge func(*prometheus.Desc, float64, ...string), counter func(*prometheus.Desc, uint64, ...string), cluster string) error {
	nodes, err := c.s.back.Nodes(cluster)
	if v1alpha1.ReasonOf(err) == v1alpha1.ReasonNotFound {
		return nil // it was deleted meanwhile
	}
	if err != nil {
		return err
	}
	phases, held := make(map[v1alpha1.NodePhase]int), 0
	for i := range nodes.Items {
		n := &nodes.Items[i]
		phases[cmp.Or(n.Status.Phase, v1alpha1.NodePending)]++
		if n.Status.Reason == v1alpha1.NodeHeld {
			held++
		}
		gauge(descReady, boolean(v1alpha1.IsConditionTrue(n.Status.Conditions, v1alpha1.NodeReady)), cluster, n.Name)
		counter(descRestarts, uint64(n.Status.Restarts), cluster, n.Name)
	}
	for _, phase := range v1alpha1.NodePhases {
		gauge(descNodes, float64(phases[phase]), cluster, string(phase))
	}
	gauge(descHeld, float64(held), cluster)
	return nil
}

func truth(s v1alpha1.ConditionStatus) float64 {
	if s == v1alpha1.ConditionUnknown {
		return -1
	}
	return boolean(s == v1alpha1.ConditionTrue)
}

func boolean(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
