package controller

import (
	"strings"
	"testing"
	"time"

	"github.com/wiber/wiber/manifests/v1alpha1"
)

func (w *world) leads(node string, term uint64) {
	w.nodes.set(func() { w.nodes.leads = groupLeader{node, term} })
	w.pass(3 * probeEvery)
}

// sees says how a node sees the others, as in "n2=suspect n3=alive".
func (w *world) sees(node, others string) {
	states := map[string]string{}
	for _, pair := range strings.Fields(others) {
		id, state, _ := strings.Cut(pair, "=")
		states[id] = state
	}
	w.nodes.set(func() {
		if w.nodes.gossip == nil {
			w.nodes.gossip = map[string]map[string]string{}
		}
		w.nodes.gossip[node] = states
	})
}

func (w *world) joined(node string) *v1alpha1.Condition {
	return v1alpha1.FindCondition(w.status(node).Conditions, v1alpha1.NodeJoined)
}

func elections(lines []string) (n int) {
	for _, line := range lines {
		if strings.HasPrefix(line, "Normal LeaderChanged×") {
			n++
		}
	}
	return n
}

func TestLeadersThatChangeAreEvents(t *testing.T) {
	story(t, func(t *testing.T, w *world) {
		w.running(nil)
		follows(t, w.told(v1alpha1.KindNode, "n1"), "Normal LeaderChanged×1 leads the catalogue in term 3", "Normal LeaderChanged×1 leads shard 0 in term 4")
		w.leads("n2", 7)
		follows(t, w.told(v1alpha1.KindNode, "n2"), "Normal LeaderChanged×1 leads the catalogue in term 7, after n1", "Normal LeaderChanged×1 leads shard 0 in term 8, after n1")
		w.leads("n1", 5) // a node that lags behind
		w.leads("n2", 9)
		follows(t, w.told(v1alpha1.KindNode, "n2"), "Normal LeaderChanged×1 leads shard 0 in term 10, again")

		list, err := w.Events("demo", v1alpha1.ObjectReference{Kind: v1alpha1.KindNode, Name: "n2"})
		must(t, err)
		found := false
		for _, e := range list.Items {
			found = found || e.Annotations[v1alpha1.AnnotationGroup] == "0" && e.Annotations[v1alpha1.AnnotationTerm] == "8" &&
				e.Annotations[v1alpha1.AnnotationLeader] == "n2" && e.Annotations[v1alpha1.AnnotationLastLeader] == "n1"
		}
		if !found {
			t.Errorf("no event for programs in %+v", list.Items)
		}

		// A controller that returns tells only of what changed meanwhile.
		one, two := elections(w.told(v1alpha1.KindNode, "n1")), elections(w.told(v1alpha1.KindNode, "n2"))
		w.stop()
		w.begin()
		w.pass(3 * probeEvery)
		if n := elections(w.told(v1alpha1.KindNode, "n2")); one != 2 || two != 4 || n != two {
			t.Errorf("%d, %d, then %d elections", one, two, n)
		}
		w.stop()
		w.nodes.set(func() { w.nodes.leads = groupLeader{"n3", 11} })
		w.begin()
		w.pass(3 * probeEvery)
		follows(t, w.told(v1alpha1.KindNode, "n3"), "Normal LeaderChanged×1 leads the catalogue in term 11, after n2")

		// A new cluster of that name begins anew.
		must(t, w.DeleteCluster(t.Context(), "demo", true, false))
		w.nodes.set(func() { w.nodes.leads = groupLeader{"n1", 1} })
		w.running(nil)
		follows(t, w.told(v1alpha1.KindNode, "n1"), "Normal LeaderChanged×1 leads the catalogue in term 1")
	})
}

func TestWhatNodesSeeOfEachOther(t *testing.T) {
	story(t, func(t *testing.T, w *world) {
		for _, node := range []string{"n1", "n2", "n3"} {
			w.sees(node, "n1=unknown n2=unknown n3=unknown")
		}
		w.running(nil)
		if c := w.joined("n2"); c.Status != v1alpha1.ConditionTrue {
			t.Errorf("nobody knows anything: %+v", c)
		}
		for node, others := range map[string]string{"n1": "n2=alive n3=alive", "n2": "n1=alive n3=alive", "n3": "n1=alive n2=alive"} {
			w.sees(node, others)
		}
		w.pass(3 * probeEvery)
		for _, line := range w.told(v1alpha1.KindNode, "n2") {
			if strings.Contains(line, "Alive") {
				t.Errorf("%q is no news", line)
			}
		}
		if c := w.joined("n2"); c.Status != v1alpha1.ConditionTrue {
			t.Fatalf("%+v", c)
		}
		healthy := len(w.told(v1alpha1.KindNode, "n2"))

		// One alone may be wrong: it is told, and changes nothing.
		w.sees("n1", "n2=suspect n3=alive")
		w.during(10*time.Second, "n2 counts as joined", func() bool { return w.joined("n2").Status == v1alpha1.ConditionTrue })
		follows(t, w.told(v1alpha1.KindNode, "n2"), "Warning Suspect×1 n1 sees it as suspect")

		w.sees("n3", "n2=suspect n1=alive")
		w.within(5*time.Second, "n2 counts as not joined", func() bool { return w.joined("n2").Status == v1alpha1.ConditionFalse })
		if c := w.joined("n2"); c.Reason != "Suspect" || c.Message != "n1, n3 see it as suspect" {
			t.Errorf("%+v", c)
		}
		w.nodes.set(func() { w.nodes.hung["n2"] = true })
		w.sees("n1", "n2=dead n3=alive")
		w.sees("n3", "n2=dead n1=alive")
		w.within(5*time.Second, "n2 is seen as dead", func() bool { return w.joined("n2").Reason == "Dead" })

		// Its own view of the others is stale, and nobody's view.
		w.sees("n2", "n1=dead n3=dead")
		w.during(10*time.Second, "n1 counts as joined", func() bool { return w.joined("n1").Status == v1alpha1.ConditionTrue })

		w.nodes.set(func() { w.nodes.hung["n2"] = false })
		w.sees("n2", "n1=alive n3=alive")
		w.sees("n1", "n2=alive n3=alive")
		w.sees("n3", "n1=alive") // one that is not named is as it was
		w.within(5*time.Second, "n2 is back for n1", func() bool { return w.joined("n2").Status == v1alpha1.ConditionTrue })
		w.sees("n3", "n1=alive n2=alive")
		w.pass(3 * probeEvery)
		follows(t, w.told(v1alpha1.KindNode, "n2"), "Warning Suspect×1 n1 sees it as suspect", "Warning Suspect×1 n3 sees it as suspect",
			"Warning Dead×1", "Warning Dead×1", "Normal Alive×1", "Normal Alive×1")
		if n := len(w.told(v1alpha1.KindNode, "n2")); n != healthy+7 { // and NotReady; Ready counts up
			t.Errorf("%d events:\n%s", n-healthy, strings.Join(w.told(v1alpha1.KindNode, "n2"), "\n"))
		}
		list, err := w.Events("demo", v1alpha1.ObjectReference{Kind: v1alpha1.KindNode, Name: "n2"})
		must(t, err)
		from := map[string]int{}
		for _, e := range list.Items {
			from[e.Source.Component]++
		}
		if from["node/n1"] != 3 || from["node/n3"] != 3 {
			t.Errorf("sources: %v", from)
		}
	})
}

// TestNodesThatHaveNotMetAccuseNobody: right after a start, or where gossip waits
// for something, "unknown" is no opinion.
func TestNodesThatHaveNotMetAccuseNobody(t *testing.T) {
	story(t, func(t *testing.T, w *world) {
		w.running(nil)
		w.sees("n1", "n2=unknown n3=unknown")
		w.sees("n3", "n1=unknown n2=unknown")
		w.pass(3 * probeEvery)
		if c := w.joined("n2"); c == nil || c.Status != v1alpha1.ConditionTrue {
			t.Errorf("Joined: %+v", c)
		}
	})
}
