package controller

import (
	"syscall"
	"testing"
	"time"

	"github.com/wiber/wiber/controller/apiserver"
	"github.com/wiber/wiber/manifests/v1alpha1"
)

func TestWhatHappensIsCounted(t *testing.T) {
	story(t, func(t *testing.T, w *world) {
		w.running(nil)
		events := func(reason string) (n uint64) {
			for _, e := range w.Metrics().Events {
				if e.Reason == reason {
					n += e.Events
				}
			}
			return n
		}
		if events(v1alpha1.EventStarted) != 3 || events(v1alpha1.EventExited) != 0 {
			t.Errorf("%+v", w.Metrics().Events)
		}
		before := w.Metrics().Passes
		must(t, w.Kill(t.Context(), "", "n2", syscall.SIGKILL))
		w.within(5*time.Second, "it runs again", func() bool { return w.status("n2").Phase == v1alpha1.NodeRunning })
		if events(v1alpha1.EventStarted) != 4 || events(v1alpha1.EventExited) != 1 || events(v1alpha1.EventKilling) != 1 {
			t.Errorf("%+v", w.Metrics().Events)
		}
		for i, p := range w.Metrics().Passes {
			if p.Kind != []string{"cluster", "node"}[i] || p.Passes <= before[i].Passes || p.Failed != 0 {
				t.Errorf("%+v, before the kill %+v", p, before[i])
			}
		}

		// The same event again is one event on the list, and is counted.
		refusals := events(v1alpha1.EventRefused)
		must(t, w.Stop(t.Context(), "", "n2"))
		for range 3 {
			refused(t, w.Restart(t.Context(), "", "n1", false), v1alpha1.ReasonConflict, "quorum")
		}
		if got := events(v1alpha1.EventRefused); got != refusals+3 {
			t.Errorf("%d refusals, before %d", got, refusals)
		}
		if told := w.toldOf("n1", v1alpha1.EventRefused); len(told) != 1 {
			t.Errorf("%q", told)
		}
	})
}

func TestPassesThatFailAreCounted(t *testing.T) {
	var p passes
	p.count(key{cluster: "demo"}, time.Second, nil)
	p.count(key{"demo", "n1"}, time.Second, nil)
	p.count(key{"demo", "n2"}, 2*time.Second, syscall.EIO)
	if got, want := p.nodes.metrics("node"), (apiserver.PassMetrics{Kind: "node", Passes: 2, Failed: 1, Time: 3 * time.Second}); got != want {
		t.Errorf("%+v", got)
	}
	if got, want := p.clusters.metrics("cluster"), (apiserver.PassMetrics{Kind: "cluster", Passes: 1, Time: time.Second}); got != want {
		t.Errorf("%+v", got)
	}
}
