package controller

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/wiber/wiber/manifests/v1alpha1"
)

func (w *world) hold(id string, d time.Duration) {
	w.t.Helper()
	must(w.t, w.Hold(w.t.Context(), "", id, syscall.SIGKILL, d))
	if st := w.status(id); st.PID != 0 || st.Phase != v1alpha1.NodeStopped || st.Reason != "Held" || (st.NextStart == nil) != (d == 0) {
		w.t.Errorf("after the hold: %+v", st)
	}
}

func TestAHeldNodeStaysDownUntilItIsStarted(t *testing.T) {
	for _, end := range []string{"restart", "start", "start of all"} {
		story(t, func(t *testing.T, w *world) {
			w.running(nil)
			w.hold("n2", 0)
			w.during(10*time.Minute, "it stays down", func() bool { return w.starts("n2") == 1 && w.status("n2").Reason == "Held" })
			if got := w.toldOf("n2", v1alpha1.EventHeld); len(got) != 1 || !strings.Contains(got[0], "until it is restarted or started") {
				t.Errorf("events %q", got)
			}
			if got := w.toldOf("n2", v1alpha1.EventBackOff); len(got) != 0 {
				t.Errorf("a held node is said to be tried again: %q", got)
			}
			cl, err := w.cluster("demo")
			must(t, err)
			if cl.Spec.Nodes[1].Stopped {
				t.Error("a hold changed what is wanted")
			}
			w.apply(nil) // neither does an apply end it
			w.stop()
			w.begin() // nor another controller
			w.during(10*time.Minute, "it stays down", func() bool { return w.starts("n2") == 1 && w.status("n2").Reason == "Held" })
			refused(t, w.Restart(t.Context(), "", "n1", false), v1alpha1.ReasonConflict, "quorum would be lost")

			switch end {
			case "restart":
				must(t, w.Restart(t.Context(), "", "n2", false))
			case "start":
				must(t, w.Start(t.Context(), "", "n2"))
			default:
				must(t, w.StartAll(t.Context(), ""))
			}
			if st := w.status("n2"); st.PID == 0 || st.Restarts != 1 {
				t.Errorf("after its %s: %+v", end, st)
			}
			w.within(5*time.Second, "it is ready", func() bool { return w.status("n2").Phase == v1alpha1.NodeRunning })
			must(t, w.Kill(t.Context(), "", "n2", syscall.SIGKILL))
			w.within(5*time.Second, "the next kill is only a kill", func() bool { return w.starts("n2") == 3 })
			w.stop()
			w.begin()
			w.during(time.Minute, "nothing is left of the hold", func() bool { return len(w.fake.Running("n2")) == 1 })
		})
	}
}

func TestAHoldWithAnEndIsOverThen(t *testing.T) {
	story(t, func(t *testing.T, w *world) {
		w.running(nil)
		began := time.Now()
		w.hold("n2", 30*time.Second)
		if got := w.status("n2").NextStart.Sub(began); got != 30*time.Second {
			t.Errorf("it ends after %v", got)
		}
		// The controller dies, and is away for a while.
		w.pass(10 * time.Second)
		w.stop()
		w.pass(10 * time.Second)
		w.begin()
		if st := w.status("n2"); st.Reason != "Held" || st.NextStart == nil || st.NextStart.Sub(began) != 30*time.Second {
			t.Errorf("after the controller's return: %+v", st)
		}
		w.within(time.Minute, "it is started", func() bool { return w.starts("n2") == 2 })
		if d := time.Since(began); d < 30*time.Second || d > 30*time.Second+100*time.Millisecond {
			t.Errorf("it was down for %v", d)
		}
		w.within(5*time.Second, "it is ready", func() bool { return w.status("n2").Phase == v1alpha1.NodeRunning })

		// Its end passes while there is no controller.
		w.hold("n3", 5*time.Second)
		w.stop()
		w.pass(time.Minute)
		w.begin()
		w.within(time.Second, "it is started", func() bool { return w.starts("n3") == 2 })

		// A new hold takes the place of the one before, and no process is needed.
		w.within(5*time.Second, "it is ready", func() bool { return w.status("n3").Phase == v1alpha1.NodeRunning })
		w.hold("n1", time.Hour)
		w.hold("n1", 5*time.Second)
		w.within(6*time.Second, "it is started", func() bool { return w.starts("n1") == 2 })
	})
}

func TestAHoldDoesNotShortenTheBackOff(t *testing.T) {
	story(t, func(t *testing.T, w *world) {
		w.running(func(c *v1alpha1.Cluster) { c.Spec.Backoff.Initial = c.Spec.Backoff.Max })
		w.hold("n2", time.Second)
		w.during(50*time.Second, "its back-off goes on", func() bool { return w.starts("n2") == 1 })
		w.within(20*time.Second, "it is started", func() bool { return w.starts("n2") == 2 })
	})
}

func TestWhatCannotBeHeldIsRefused(t *testing.T) {
	story(t, func(t *testing.T, w *world) {
		w.running(nil)
		refused(t, w.Hold(t.Context(), "", "n2", syscall.SIGSTOP, 0), v1alpha1.ReasonBadRequest, "SIGSTOP does not end a process")
		refused(t, w.Hold(t.Context(), "", "n9", syscall.SIGKILL, 0), v1alpha1.ReasonNotFound, "n9")
		must(t, w.Stop(t.Context(), "", "n2"))
		refused(t, w.Hold(t.Context(), "", "n2", syscall.SIGKILL, 0), v1alpha1.ReasonConflict, "stopped already")
		if len(w.fake.Running("n1"))+len(w.fake.Running("n3")) != 2 {
			t.Error("a refused hold did something")
		}
	})
}

// The controller dies after it wrote down the hold and before the signal: the
// next one keeps the promise, but never to another process.
func TestAHoldThatWasOnlyWrittenIsCarriedOut(t *testing.T) {
	story(t, func(t *testing.T, w *world) {
		w.running(nil)
		w.fake.Stubborn("n2", true)
		ctx := t.Context()
		done := make(chan struct{})
		c := w.Controller
		go func() { _ = c.Hold(ctx, "", "n2", syscall.SIGTERM, 0); close(done) }()
		w.within(time.Second, "the hold is written", func() bool { h, err := c.store.Hold("demo", "n2"); return err == nil && h != nil && h.Process != nil })
		w.stop()
		<-done
		w.fake.Stubborn("n2", false)
		w.begin()
		w.within(time.Second, "it is down", func() bool { return len(w.fake.Running("n2")) == 0 && w.status("n2").Reason == "Held" })

		// Somebody starts it by hand: that is a start.
		pid := w.byHand(w.demo(nil), "n2")
		w.within(15*time.Second, "it is adopted", func() bool { return w.status("n2").PID == pid })
		w.during(time.Minute, "it goes on", func() bool { return w.status("n2").PID == pid })
		if h, err := w.store.Hold("demo", "n2"); h != nil || err != nil {
			t.Errorf("the hold is still there: %+v, %v", h, err)
		}
	})
}

func TestADeletedNodeLeavesNoHold(t *testing.T) {
	story(t, func(t *testing.T, w *world) {
		w.running(nil)
		w.hold("n2", 0)
		must(t, w.DeleteCluster(t.Context(), "demo", false, false))
		w.running(nil)
		if len(w.pids()) != 3 {
			t.Errorf("running: %v", w.pids())
		}
	})
}
