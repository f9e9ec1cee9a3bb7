package controller

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wiber/wiber/manifests/v1alpha1"
)

// story of events: "Reason×count message" of one object, oldest first.
func (w *world) told(kind, name string) (lines []string) {
	w.t.Helper()
	list, err := w.Events("demo", v1alpha1.ObjectReference{Kind: kind, Name: name})
	must(w.t, err)
	for _, e := range list.Items {
		lines = append(lines, fmt.Sprintf("%s %s×%d %s", e.EventType, e.Reason, e.Count, e.Message))
	}
	return lines
}

// follows checks that lines with these beginnings stand in this order, whatever
// stands between them.
func follows(t *testing.T, lines []string, wants ...string) {
	t.Helper()
	rest := lines
	for _, want := range wants {
		for len(rest) > 0 && !strings.HasPrefix(rest[0], want) {
			rest = rest[1:]
		}
		if len(rest) == 0 {
			t.Fatalf("no %q in its place in:\n%s", want, strings.Join(lines, "\n"))
		}
		rest = rest[1:]
	}
}

func TestEventsTellTheLifeOfANode(t *testing.T) {
	story(t, func(t *testing.T, w *world) {
		w.running(nil)
		pid := w.status("n2").PID
		must(t, w.Kill(t.Context(), "", "n2", syscall.SIGKILL))
		w.within(5*time.Second, "it runs again", func() bool { return w.status("n2").Phase == v1alpha1.NodeRunning })
		follows(t, w.told(v1alpha1.KindNode, "n2"),
			"Normal Created×1 on 127.0.0.1:9102",
			"Normal Starting×1",
			fmt.Sprintf("Normal Started×1 pid %d", pid),
			fmt.Sprintf("Normal Ready×1 pid %d serves requests", pid),
			fmt.Sprintf("Normal Killing×1 pid %d gets SIGKILL, as somebody asked", pid),
			fmt.Sprintf("Warning Exited×1 pid %d: ", pid),
			"Warning BackOff×1 end 1 in a row that nobody asked for; next try in ",
			"Normal Starting×1", "Normal Started×1", "Normal Ready×1")

		// Its Starting may be the same event as the first one, which then counts up.
		must(t, w.Restart(t.Context(), "", "n3", false))
		follows(t, w.told(v1alpha1.KindNode, "n3"), "Normal Ready×1", "Normal Draining×1 pid ", "Normal Exited×1 pid ", "Normal Started×1 pid ")

		list, err := w.Events("", v1alpha1.ObjectReference{})
		must(t, err)
		for _, e := range list.Items {
			if e.Namespace != "demo" || e.UID == "" || e.InvolvedObject.UID == "" || e.Source.Component != v1alpha1.SourceController || e.FirstTimestamp.IsZero() || e.Name == "" {
				t.Errorf("%+v", e)
			}
			got, err := w.Event("", e.Name)
			must(t, err)
			if got.UID != e.UID {
				t.Errorf("event %s is %+v", e.Name, got)
			}
		}
		if list.Metadata.ResourceVersion == "" {
			t.Error("the list has no version")
		}
		_, err = w.Event("demo", "n9.1")
		refused(t, err, v1alpha1.ReasonNotFound, `events "n9.1" not found`)
		_, err = w.Events("prod", v1alpha1.ObjectReference{})
		refused(t, err, v1alpha1.ReasonNotFound, `clusters "prod" not found`)
	})
}

func TestTheSameEventCountsUpFor10Minutes(t *testing.T) {
	story(t, func(t *testing.T, w *world) {
		w.apply(nil)
		k := key{"demo", "n1"}
		happen := func() { w.warning(k, v1alpha1.EventSuspect, "n2 sees it so") }
		count := func() (count, events int) {
			for _, line := range w.told(v1alpha1.KindNode, "n1") {
				if n, _ := fmt.Sscanf(line, "Warning Suspect×%d", &count); n == 1 {
					events++
				}
			}
			return count, events
		}
		first := time.Now()
		for range 5 {
			happen()
			time.Sleep(9 * time.Minute)
		}
		if n, events := count(); n != 5 || events != 1 {
			t.Errorf("%d events, count %d", events, n)
		}
		list, err := w.Events("demo", v1alpha1.ObjectReference{Kind: v1alpha1.KindNode, Name: "n1"})
		must(t, err)
		e := list.Items[len(list.Items)-1]
		if !e.FirstTimestamp.Equal(first.Truncate(time.Microsecond)) || e.LastTimestamp.Sub(e.FirstTimestamp.Time) != 36*time.Minute {
			t.Errorf("from %v to %v", e.FirstTimestamp, e.LastTimestamp)
		}
		// A controller that returns goes on counting.
		w.stop()
		w.begin()
		happen()
		if n, events := count(); n != 6 || events != 1 {
			t.Errorf("after a restart of the controller: %d events, count %d", events, n)
		}
		time.Sleep(10 * time.Minute)
		happen()
		w.warning(k, v1alpha1.EventSuspect, "n3 sees it so")
		if n, events := count(); n != 1 || events != 3 {
			t.Errorf("after 10 minutes: %d events, count %d", events, n)
		}
	})
}

func TestEventsSurviveTheController(t *testing.T) {
	story(t, func(t *testing.T, w *world) {
		w.running(nil)
		before := append(w.told(v1alpha1.KindNode, "n1"), fmt.Sprintf("Normal Adopted×1 pid %d, started by an earlier controller", w.status("n1").PID))
		w.stop()
		w.begin()
		time.Sleep(time.Minute)
		if after := w.told(v1alpha1.KindNode, "n1"); strings.Join(after, "\n") != strings.Join(before, "\n") {
			t.Errorf("before:\n%s\nafter:\n%s", strings.Join(before, "\n"), strings.Join(after, "\n"))
		}
	})
}

func TestABurstOfEventsIsWrittenAtOnce(t *testing.T) {
	story(t, func(t *testing.T, w *world) {
		w.apply(nil)
		w.during(time.Minute, "settled", func() bool { return true })
		stored := func() int {
			items, _, err := w.store.Events("demo")
			must(t, err)
			return len(items)
		}
		before := stored()
		for i := range 100 {
			w.normal(key{"demo", "n1"}, v1alpha1.EventReady, "burst %d", i)
		}
		synctest.Wait()
		if n := stored(); n != before {
			t.Errorf("%d events were written at once", n-before)
		}
		time.Sleep(2 * eventDelay)
		synctest.Wait()
		if n := stored(); n != before+100 {
			t.Errorf("%d of 100 events were written", n-before)
		}
	})
}

func TestWhatIsRefusedIsAnEvent(t *testing.T) {
	story(t, func(t *testing.T, w *world) {
		w.running(nil)
		w.nodes.set(func() { w.nodes.unready["n1"] = "it waits" })
		w.within(10*time.Second, "n1 is not ready", func() bool {
			return !v1alpha1.IsConditionTrue(w.status("n1").Conditions, v1alpha1.NodeReady)
		})
		if err := w.Restart(t.Context(), "", "n2", false); err == nil {
			t.Fatal("the restart was not refused")
		}
		follows(t, w.told(v1alpha1.KindNode, "n2"), `Warning Refused×1 nodes "n2": the quorum would be lost`)
		follows(t, w.told(v1alpha1.KindNode, "n1"), "Warning NotReady×1 it waits")

		shards := func(c *v1alpha1.Cluster) { c.Spec.Shards = 9 }
		if _, err := w.PutCluster(w.demo(shards), true); err == nil {
			t.Fatal("other shards were taken")
		}
		before := w.told(v1alpha1.KindCluster, "demo")
		if _, err := w.PutCluster(w.demo(shards), false); err == nil {
			t.Fatal("other shards were taken")
		}
		after := w.told(v1alpha1.KindCluster, "demo")
		if len(after) != len(before)+1 {
			t.Errorf("a dry run is no event:\n%s", strings.Join(after, "\n"))
		}
		follows(t, after, "Normal Created×1 3 nodes, 4 shards", `Warning Refused×1 Cluster "demo" is invalid: spec.shards`)
	})
}

func TestADeletedClusterKeepsItsEvents(t *testing.T) {
	story(t, func(t *testing.T, w *world) {
		w.running(nil)
		w.apply(func(c *v1alpha1.Cluster) { c.Spec.TerminationGracePeriod *= 2 })
		must(t, w.DeleteCluster(t.Context(), "demo", false, false))
		follows(t, w.told(v1alpha1.KindCluster, "demo"), "Normal Created×1", "Normal Configured×1 generation 2", "Normal Deleting×1 its nodes are stopped; their data stays", "Normal Deleted×1")
		follows(t, w.told(v1alpha1.KindNode, "n1"), "Normal Draining×1", "Normal Exited×1", "Normal Deleted×1")
		list, err := w.Events("demo", v1alpha1.ObjectReference{Kind: v1alpha1.KindCluster, Name: "demo"})
		must(t, err)
		if last := list.Items[len(list.Items)-1]; last.InvolvedObject.UID == "" {
			t.Errorf("%+v", last)
		}
	})
}
