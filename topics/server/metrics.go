package server

import (
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/wiber/wiber/topics/wire"
)

// resultOK and resultDuplicate are the results of publishes that succeeded; the
// others are the code words.
const (
	resultOK        = "OK"
	resultDuplicate = "DUPLICATE"
)

// metrics are what /metrics shows of a node. Publishes are counted as they end;
// everything else is read when somebody asks. No metric has a topic's name: a
// node has a million topics and few groups. docs/metrics.md lists them.
type metrics struct {
	registry *prometheus.Registry
	handler  http.Handler

	publishes map[string]prometheus.Counter // by result; fixed
	other     prometheus.Counter            // of a result that is not known here
	bytes     prometheus.Counter
	latency   prometheus.Histogram
	slow      prometheus.Counter
}

func newMetrics(s *Server) *metrics {
	m := &metrics{registry: prometheus.NewRegistry(), publishes: make(map[string]prometheus.Counter)}
	results := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "wiber_publishes_total", Help: "Publishes that this node's clients were answered, by result: OK, DUPLICATE or a code word.",
	}, []string{"result"})
	for _, r := range []string{resultOK, resultDuplicate, string(wire.Syntax), string(wire.NoTopic), string(wire.TooLarge), string(wire.Range),
		string(wire.Gap), string(wire.NoQuorum), string(wire.Busy), string(wire.Timeout), string(wire.Internal)} {
		m.publishes[r] = results.WithLabelValues(r)
	}
	m.other = results.WithLabelValues("OTHER")
	m.bytes = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "wiber_publish_bytes_total", Help: "Payload, key and headers of the messages that were acknowledged.",
	})
	m.latency = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "wiber_publish_seconds", Help: "From a publish's arrival at this node to its acknowledgement.",
		Buckets: prometheus.ExponentialBuckets(0.0005, 2, 15),
	})
	m.slow = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "wiber_slow_subscriptions_total", Help: "Subscriptions that ended because their client was too slow.",
	})
	m.registry.MustRegister(results, m.bytes, m.latency, m.slow, &scrape{s}, collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.handler = promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4, Timeout: changeWithin})
	return m
}

// acknowledged counts a publish that was acknowledged, so long after it came.
func (m *metrics) acknowledged(duplicate bool, bytes int, taken time.Duration) {
	result := resultOK
	if duplicate {
		result = resultDuplicate
	}
	m.publishes[result].Inc()
	m.bytes.Add(float64(bytes))
	m.latency.Observe(taken.Seconds())
}

// refused counts a publish that was not.
func (m *metrics) refused(code wire.Code) {
	c := m.publishes[string(code)]
	if c == nil {
		c = m.other
	}
	c.Inc()
}

// scrape reads the node's state when somebody asks for it.
type scrape struct{ s *Server }

var (
	descInfo       = prometheus.NewDesc("wiber_node_info", "1; the labels say which node of which cluster answers, and its version.", []string{"node", "cluster", "version"}, nil)
	descReady      = prometheus.NewDesc("wiber_node_ready", "1 if the node is ready, else 0.", nil, nil)
	descTerm       = prometheus.NewDesc("wiber_group_term", "Raft term of a group.", []string{"group"}, nil)
	descCommit     = prometheus.NewDesc("wiber_group_commit_index", "Raft index up to which a group's entries are committed, as this node knows.", []string{"group"}, nil)
	descApplied    = prometheus.NewDesc("wiber_group_applied_index", "Raft index up to which this node has applied a group's entries.", []string{"group"}, nil)
	descLeader     = prometheus.NewDesc("wiber_group_leader", "1 if this node leads the group, else 0.", []string{"group"}, nil)
	descEps        = prometheus.NewDesc("wiber_clock_eps_microseconds", "Half-width of the uncertainty of this node's time; -1 if it is not synchronised.", nil, nil)
	descGossip     = prometheus.NewDesc("wiber_gossip_nodes", "Nodes by the state in which this node sees them.", []string{"state"}, nil)
	descSessions   = prometheus.NewDesc("wiber_sessions", "Connections of clients, those of this node's own HTTP included.", nil, nil)
	descUnanswered = prometheus.NewDesc("wiber_unanswered_bytes", "Memory that requests without an answer are counted for.", nil, nil)
)

// Describe implements prometheus.Collector.
func (c *scrape) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descInfo, descReady, descTerm, descCommit, descApplied, descLeader, descEps, descGossip, descSessions, descUnanswered} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (c *scrape) Collect(out chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	b := c.s.backend
	status := b.Status()
	gauge(descInfo, 1, status.Node, status.Cluster, status.Version)
	gauge(descReady, truth(len(b.NotReady()) == 0))
	for _, g := range status.Groups {
		gauge(descTerm, float64(g.Term), g.ID)
		gauge(descCommit, float64(g.Commit), g.ID)
		gauge(descApplied, float64(g.Applied), g.ID)
		gauge(descLeader, truth(g.Leader == status.Node && g.Leader != ""), g.ID)
	}
	states := make(map[string]int)
	for _, g := range status.Gossip {
		states[g.State]++
	}
	for state, n := range states {
		gauge(descGossip, float64(n), state)
	}
	_, eps := b.Now()
	gauge(descEps, float64(eps))
	gauge(descSessions, float64(c.s.sessions.Load()))
	gauge(descUnanswered, float64(c.s.bytes.inUse()))
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
