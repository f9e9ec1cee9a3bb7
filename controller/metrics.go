package controller

import (
	"cmp"
	"slices"
	"sync/atomic"
	"time"

	"github.com/wiber/wiber/controller/apiserver"
)

// passes counts the passes over clusters and over nodes.
type passes struct{ clusters, nodes passCount }

type passCount struct {
	passes, failed atomic.Uint64
	nanos          atomic.Int64
}

// count takes note of a pass over a key, of how long it took and how it ended.
func (p *passes) count(k key, took time.Duration, err error) {
	of := &p.nodes
	if k.node == "" {
		of = &p.clusters
	}
	of.passes.Add(1)
	of.nanos.Add(int64(took))
	if err != nil {
		of.failed.Add(1)
	}
}

func (p *passCount) metrics(kind string) apiserver.PassMetrics {
	return apiserver.PassMetrics{Kind: kind, Passes: p.passes.Load(), Failed: p.failed.Load(), Time: time.Duration(p.nanos.Load())}
}

// Metrics implements apiserver.Backend.
func (c *Controller) Metrics() apiserver.Metrics {
	return apiserver.Metrics{
		Version: c.o.Version,
		Passes:  []apiserver.PassMetrics{c.passes.clusters.metrics("cluster"), c.passes.nodes.metrics("node")},
		Events:  c.events.metrics(),
	}
}

// metrics returns how often what happened since the start, in order.
func (r *recorder) metrics() []apiserver.EventMetrics {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []apiserver.EventMetrics
	for kind, n := range r.counts {
		all = append(all, apiserver.EventMetrics{Type: kind.eventType, Reason: kind.reason, Events: n})
	}
	slices.SortFunc(all, func(a, b apiserver.EventMetrics) int {
		return cmp.Or(cmp.Compare(a.Reason, b.Reason), cmp.Compare(a.Type, b.Type))
	})
	return all
}
