package controller

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wiber/wiber/controller/apiserver"
	"github.com/wiber/wiber/manifests/v1alpha1"
)

// seen is a watch event as a test reads it.
type seen struct {
	kind    v1alpha1.WatchType
	name    string
	version string
	object  json.RawMessage
}

func (s seen) String() string { return string(s.kind) + " " + s.name }

// watching is a watch that a test reads.
type watching struct {
	w *world
	apiserver.Watch
}

func (w *world) watching(o apiserver.WatchOptions) *watching {
	w.t.Helper()
	watch, err := w.Watch(w.t.Context(), o)
	must(w.t, err)
	return &watching{w, watch}
}

// have returns what there is now.
func (w *watching) have() (all []seen, err error) {
	w.w.t.Helper()
	synctest.Wait()
	w.w.events.flush()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for {
		events, err := w.Next(ctx)
		if errors.Is(err, context.Canceled) {
			return all, nil
		}
		if err != nil {
			return all, err
		}
		for _, e := range events {
			var o struct{ Metadata v1alpha1.ObjectMeta }
			must(w.w.t, json.Unmarshal(e.Object, &o))
			all = append(all, seen{e.Type, o.Metadata.Name, o.Metadata.ResourceVersion, e.Object})
		}
	}
}

func (w *watching) must() []seen {
	w.w.t.Helper()
	all, err := w.have()
	must(w.w.t, err)
	return all
}

func names(all []seen) (s []string) {
	for _, e := range all {
		s = append(s, e.String())
	}
	return s
}

func TestAWatchBeginsWithWhatExists(t *testing.T) {
	story(t, func(t *testing.T, w *world) {
		early := w.watching(apiserver.WatchOptions{Kind: v1alpha1.KindNode})
		if got := names(early.must()); !reflect.DeepEqual(got, []string{"BOOKMARK "}) {
			t.Errorf("nothing exists: %q", got)
		}
		w.running(nil)
		got := early.must()
		if first := names(got)[:3]; !reflect.DeepEqual(first, []string{"ADDED n1", "ADDED n2", "ADDED n3"}) {
			t.Errorf("%q", names(got))
		}

		late := w.watching(apiserver.WatchOptions{Kind: v1alpha1.KindNode})
		all := late.must()
		if got := names(all); !reflect.DeepEqual(got, []string{"ADDED n1", "ADDED n2", "ADDED n3", "BOOKMARK "}) {
			t.Fatalf("%q", got)
		}
		list, err := w.Nodes("")
		must(t, err)
		if all[3].version != list.Metadata.ResourceVersion {
			t.Errorf("the bookmark says %s, the list %s", all[3].version, list.Metadata.ResourceVersion)
		}
		for i, n := range list.Items {
			var o v1alpha1.Node
			must(t, json.Unmarshal(all[i].object, &o))
			if !reflect.DeepEqual(o, n) {
				t.Errorf("%s\nis not what GET says: %+v", all[i].object, n)
			}
		}
		one := w.watching(apiserver.WatchOptions{Kind: v1alpha1.KindNode, Name: "n2"})
		absent := w.watching(apiserver.WatchOptions{Kind: v1alpha1.KindNode, Name: "n9"})
		other := w.watching(apiserver.WatchOptions{Kind: v1alpha1.KindNode, Cluster: "prod"})
		must(t, w.Kill(t.Context(), "", "n2", syscall.SIGKILL))
		follows(t, names(one.must()), "ADDED n2", "BOOKMARK", "MODIFIED n2")
		for _, e := range late.must() {
			if e.name != "n2" || e.kind != v1alpha1.WatchModified {
				t.Errorf("%v", e)
			}
		}
		if a, o := names(absent.must()), names(other.must()); len(a) != 1 || len(o) != 1 {
			t.Errorf("%q, %q", a, o)
		}

		clusters := w.watching(apiserver.WatchOptions{Kind: v1alpha1.KindCluster})
		must(t, w.DeleteCluster(t.Context(), "demo", false, false))
		follows(t, names(clusters.must()), "ADDED demo", "BOOKMARK", "MODIFIED demo", "DELETED demo")
		follows(t, names(one.must()), "DELETED n2")
	})
}

func TestAWatchGoesOnFromAVersion(t *testing.T) {
	story(t, func(t *testing.T, w *world) {
		w.running(nil)
		first := w.watching(apiserver.WatchOptions{Kind: v1alpha1.KindNode})
		before := first.must()
		version := first.Version()
		must(t, w.Kill(t.Context(), "", "n2", syscall.SIGKILL))
		w.within(5*time.Second, "n2 runs again", func() bool { return w.status("n2").Phase == v1alpha1.NodeRunning })
		rest := first.must()

		// From the bookmark, from the last object, and from in between.
		for i, from := range []string{version, before[len(before)-1].version, rest[0].version} {
			again := w.watching(apiserver.WatchOptions{Kind: v1alpha1.KindNode, Version: from})
			want := rest
			if i == 2 {
				want = rest[1:]
			}
			if got := again.must(); !reflect.DeepEqual(got, want) {
				t.Errorf("from %s: %q\nwant %q", from, names(got), names(want))
			}
		}

		// A controller that returns knows what follows its start.
		w.stop()
		w.begin()
		again := w.watching(apiserver.WatchOptions{Kind: v1alpha1.KindNode, Version: first.Version()})
		must(t, w.Kill(t.Context(), "", "n1", syscall.SIGKILL))
		follows(t, names(again.must()), "MODIFIED n1")
		for _, from := range []string{version, "999999", "yesterday"} {
			_, err := w.watching(apiserver.WatchOptions{Kind: v1alpha1.KindNode, Version: from}).have()
			refused(t, err, v1alpha1.ReasonExpired, "list again")
		}
	})
}

func TestEventsAreWatchedAsTheyHappen(t *testing.T) {
	story(t, func(t *testing.T, w *world) {
		all := w.watching(apiserver.WatchOptions{Kind: v1alpha1.KindEvent})
		n2 := w.watching(apiserver.WatchOptions{Kind: v1alpha1.KindEvent, Object: v1alpha1.ObjectReference{Kind: v1alpha1.KindNode, Name: "n2"}})
		w.running(nil)
		var reasons []string
		for _, e := range n2.must() {
			var o v1alpha1.Event
			must(t, json.Unmarshal(e.object, &o))
			reasons = append(reasons, fmt.Sprintf("%s %s %s", e.kind, o.InvolvedObject.Name, o.Reason))
		}
		follows(t, reasons, "BOOKMARK", "ADDED n2 Created", "ADDED n2 Starting", "ADDED n2 Started", "ADDED n2 Ready")
		for _, r := range reasons[1:] {
			if !strings.HasPrefix(r, "ADDED n2 ") {
				t.Errorf("%q is not about n2", r)
			}
		}
		all.must()
		w.normal(key{"demo", "n1"}, v1alpha1.EventReady, "again and again")
		added := all.must()
		w.normal(key{"demo", "n1"}, v1alpha1.EventReady, "again and again")
		counted := all.must()
		if len(added) != 1 || len(counted) != 1 || added[0].kind != v1alpha1.WatchAdded || counted[0].kind != v1alpha1.WatchModified || added[0].name != counted[0].name {
			t.Errorf("%v, then %v", added, counted)
		}
	})
}

func TestANodeOfSeveralClustersIsWatchedByItsCluster(t *testing.T) {
	story(t, func(t *testing.T, w *world) {
		w.apply(nil)
		prod := w.demo(func(c *v1alpha1.Cluster) {
			c.Name = "prod"
			c.Spec.DataRoot += "2"
			for i := range c.Spec.Nodes {
				n := &c.Spec.Nodes[i]
				n.Port, n.PeerPort, n.HTTPPort, n.KafkaPort = n.Port+1000, n.PeerPort+1000, n.HTTPPort+1000, n.KafkaPort+1000
			}
		})
		_, err := w.PutCluster(prod, false)
		must(t, err)
		_, err = w.Watch(t.Context(), apiserver.WatchOptions{Kind: v1alpha1.KindNode, Name: "n1"})
		refused(t, err, v1alpha1.ReasonBadRequest, "several clusters")
		one := w.watching(apiserver.WatchOptions{Kind: v1alpha1.KindNode, Cluster: "prod", Name: "n1"})
		if got := names(one.must()); got[0] != "ADDED n1" || got[1] != "BOOKMARK " {
			t.Errorf("%q", got)
		}
	})
}
