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
	descOffset     = prometheus.NewDesc("wiber_clock_offset_microseconds", "By how much this node's own clock is ahead of the cluster's time; 0 while that is not known.", nil, nil)
	descDrift      = prometheus.NewDesc("wiber_clock_drift_ppm", "How much faster than the cluster's time this node's own clock runs; absent until it is known.", nil, nil)
	descProbes     = prometheus.NewDesc("wiber_clock_probes_total", "Probes of clocks that were sent: asked by this node, answered for another.", []string{"what"}, nil)
	descChanges    = prometheus.NewDesc("wiber_group_leader_changes_total", "Times that this node took notice of another leader of the group.", []string{"group"}, nil)
	descLag        = prometheus.NewDesc("wiber_group_follower_lag", "Entries that are not yet known to be on a replica's disk, as the group's leader knows; absent elsewhere.", []string{"group", "follower"}, nil)
	descLink       = prometheus.NewDesc("wiber_link_up", "1 if this node's raft link with a peer stands, else 0.", []string{"peer"}, nil)
	descSyncs      = prometheus.NewDesc("wiber_log_syncs_total", "Calls of fdatasync on the log.", nil, nil)
	descFrames     = prometheus.NewDesc("wiber_log_frames_total", "Frames written to the log; one holds what all groups had waiting.", nil, nil)
	descBytes      = prometheus.NewDesc("wiber_log_bytes_total", "Bytes of those frames.", nil, nil)
	descForwards   = prometheus.NewDesc("wiber_forwards", "Requests of this node without an answer: sent to their leaders, or waiting.", []string{"state"}, nil)
	descDropped    = prometheus.NewDesc("wiber_raft_messages_dropped_total", "Messages of raft that were dropped: a queue was full, or the peer not connected.", nil, nil)
	descPackets    = prometheus.NewDesc("wiber_peer_packets_total", "Packets of the peer port's UDP side, by what became of them.", []string{"what"}, nil)
	descSubs       = prometheus.NewDesc("wiber_subscriptions", "Subscriptions that are open.", nil, nil)
	descStreams    = prometheus.NewDesc("wiber_streams", "WebSockets of topics that are open.", nil, nil)
	descUnanswered = prometheus.NewDesc("wiber_unanswered_bytes", "Memory that requests without an answer are counted for.", nil, nil)
)

// Describe implements prometheus.Collector.
func (c *scrape) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		descInfo, descReady, descTerm, descCommit, descApplied, descLeader, descChanges, descLag, descLink, descSyncs, descFrames, descBytes, descForwards,
		descDropped, descPackets, descGossip, descEps, descOffset, descDrift, descProbes, descSessions, descSubs, descStreams, descUnanswered,
	} {
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
	b := c.s.backend
	status := b.Status()
	gauge(descInfo, 1, status.Node, status.Cluster, status.Version)
	gauge(descReady, truth(len(b.NotReady()) == 0))
	for _, g := range status.Groups {
		gauge(descTerm, float64(g.Term), g.ID)
		gauge(descCommit, float64(g.Commit), g.ID)
		gauge(descApplied, float64(g.Applied), g.ID)
		gauge(descLeader, truth(g.Leader == status.Node && g.Leader != ""), g.ID)
		for _, f := range g.Followers {
			gauge(descLag, float64(f.Lag), g.ID, f.Node)
		}
	}
	for _, l := range status.Links {
		gauge(descLink, truth(l.Up), l.Node)
	}
	states := make(map[string]int)
	for _, g := range status.Gossip {
		states[g.State]++
	}
	for state, n := range states {
		gauge(descGossip, float64(n), state)
	}
	gauge(descEps, float64(status.Clock.Eps))
	gauge(descOffset, float64(status.Clock.OffsetMicros))
	if drift := status.Clock.DriftPPM; drift != nil {
		gauge(descDrift, *drift)
	}
	gauge(descSessions, float64(c.s.sessions.Load()))
	gauge(descSubs, float64(c.s.subscriptions.Load()))
	gauge(descStreams, float64(c.s.inside.gateway.Streams()))
	gauge(descUnanswered, float64(c.s.bytes.inUse()))

	n := b.Counters()
	counter(descSyncs, n.LogSyncs)
	counter(descFrames, n.LogFrames)
	counter(descBytes, n.LogBytes)
	for group, changes := range n.LeaderChanges {
		counter(descChanges, changes, group)
	}
	gauge(descForwards, float64(n.ForwardsSent), "sent")
	gauge(descForwards, float64(n.ForwardsWaiting), "waiting")
	counter(descDropped, n.MessagesDropped)
	counter(descPackets, n.PacketsSent, "sent")
	counter(descPackets, n.PacketsReceived, "received")
	counter(descPackets, n.PacketsUntaken, "untaken")
	counter(descPackets, n.PacketsStrange, "strange")
	counter(descPackets, n.PacketsNoRoom, "no-room")
	counter(descProbes, n.ProbesAsked, "asked")
	counter(descProbes, n.ProbesAnswered, "answered")
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
