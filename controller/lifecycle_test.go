package controller

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wiber/wiber/controller/plan"
	"github.com/wiber/wiber/controller/proc"
	"github.com/wiber/wiber/manifests"
	"github.com/wiber/wiber/manifests/v1alpha1"
)

func TestApplyStartsTheNodes(t *testing.T) {
	story(t, func(t *testing.T, w *world) {
		if result, _ := w.apply(nil); result != "created" {
			t.Fatal(result)
		}
		if result, _ := w.apply(nil); result != "unchanged" {
			t.Fatal(result)
		}
		w.running(nil)

		spec := w.fake.Started()[0]
		root := filepath.Join(w.dir, "data")
		file := filepath.Join(w.dir, "clusters", "demo.yaml")
		want := []string{"node", "--id", spec.Node, "--config", file, "--data-root", root}
		if !reflect.DeepEqual(spec.Args, want) || spec.LogFile != filepath.Join(root, spec.Node, "logs", "console.log") || spec.Env != nil {
			t.Errorf("started %+v\nwant args %q", spec, want)
		}
		docs, err := manifests.Decode([]string{file}, nil)
		must(t, err)
		if cl := docs[0].Object.(*v1alpha1.Cluster); cl.Name != "demo" || !reflect.DeepEqual(cl.Spec, w.demo(nil).Spec) {
			t.Errorf("the file says %+v", cl.Spec)
		}

		n1 := w.status("n1")
		if n1.PID != w.fake.Running("n1")[0] || n1.Restarts != 0 || n1.Incarnation != 7 || n1.Role != v1alpha1.RoleLeader ||
			n1.Term != 3 || n1.Commit != 100 || n1.Applied != 90 || n1.Lag != 10 || !reflect.DeepEqual(n1.LeaderOf, []string{"catalogue", "0"}) {
			t.Errorf("status %+v", n1)
		}
		for _, kind := range []string{v1alpha1.NodeReady, v1alpha1.NodeProcessRunning, v1alpha1.NodeJoined, v1alpha1.NodeCaughtUp} {
			if !v1alpha1.IsConditionTrue(n1.Conditions, kind) {
				t.Errorf("%s is not True: %+v", kind, n1.Conditions)
			}
		}
		cl, err := w.cluster("demo")
		must(t, err)
		for kind, want := range map[string]bool{v1alpha1.ClusterReady: true, v1alpha1.ClusterQuorumAvailable: true, v1alpha1.ClusterProgressing: false, v1alpha1.ClusterDegraded: false} {
			if got := v1alpha1.IsConditionTrue(cl.Status.Conditions, kind); got != want {
				t.Errorf("cluster %s = %v: %+v", kind, got, cl.Status.Conditions)
			}
		}
		version := cl.ResourceVersion
		if result, warnings := w.apply(nil); result != "unchanged" || warnings != nil {
			t.Errorf("second apply: %s %q", result, warnings)
		}
		w.during(time.Minute, "nothing is written when nothing happens", func() bool {
			cl, err := w.cluster("demo")
			return err == nil && cl.ResourceVersion == version && len(w.fake.Started()) == 3
		})
	})
}

func TestAKilledNodeComesBackAfterItsBackOff(t *testing.T) {
	story(t, func(t *testing.T, w *world) {
		w.running(nil)
		before := w.status("n2").PID
		must(t, w.Kill(t.Context(), "", "n2", syscall.SIGKILL))
		killed := time.Now()
		st := w.status("n2")
		if st.PID != 0 || st.Phase != v1alpha1.NodeCrashLoopBackOff || st.NextStart == nil || st.LastTermination == nil ||
			st.LastTermination.Signal != "SIGKILL" || st.LastTermination.ExitCode != -1 || v1alpha1.IsConditionTrue(st.Conditions, v1alpha1.NodeReady) {
			t.Errorf("after the kill: %+v", st)
		}
		refused(t, w.Kill(t.Context(), "", "n2", syscall.SIGKILL), v1alpha1.ReasonConflict, "no process")
		w.within(5*time.Second, "it runs again", func() bool { return w.status("n2").Phase == v1alpha1.NodeRunning })
		if d := time.Since(killed); d < 900*time.Millisecond || d > 1300*time.Millisecond {
			t.Errorf("it came back after %v, want 1s ± 10 %%", d)
		}
		st = w.status("n2")
		if st.PID == before || st.Restarts != 1 || st.RestartedAt == nil || !st.RestartedAt.Equal(st.StartedAt.Time) {
			t.Errorf("after the restart: %+v", st)
		}
		restarted := st.RestartedAt
		w.pass(time.Minute)
		must(t, w.Restart(t.Context(), "", "n2", false)) // an asked one is none that counts
		if st := w.status("n2"); st.Restarts != 1 || !st.RestartedAt.Equal(restarted.Time) || !st.StartedAt.After(restarted.Time) {
			t.Errorf("after a restart that somebody asked for: %+v", st)
		}
		if w.starts("n1")+w.starts("n3") != 2 {
			t.Error("other nodes were started again")
		}
	})
}

func TestACrashLoopIsHeldBackAndNeverGivenUp(t *testing.T) {
	story(t, func(t *testing.T, w *world) {
		w.running(nil)
		ended := time.Now()
		w.fake.Exit("n3", 1)
		for _, want := range []time.Duration{1, 2, 4, 8, 16, 32, 60, 60, 60} {
			want *= time.Second
			pid := w.fake.Running("n3")
			w.within(80*time.Second, "it is started again", func() bool { return len(w.fake.Running("n3")) > len(pid) })
			if d := time.Since(ended); d < want*9/10 || d > want*11/10+50*time.Millisecond {
				t.Errorf("back-off of %v, want %v ± 10 %%", d, want)
			}
			ended = time.Now()
			w.fake.Exit("n3", 1)
			synctest.Wait()
			st := w.status("n3")
			if st.Phase != v1alpha1.NodeCrashLoopBackOff || !strings.Contains(st.Reason, "exit code 1") || st.LastTermination.ExitCode != 1 {
				t.Errorf("%+v", st)
			}
		}
		if st := w.status("n3"); st.Restarts != 9 {
			t.Errorf("%d restarts, want 9", st.Restarts)
		}
		// A good run forgets it all.
		w.within(70*time.Second, "it is started again", func() bool { return len(w.fake.Running("n3")) == 1 })
		time.Sleep(121 * time.Second)
		w.fake.Exit("n3", 1)
		w.within(1200*time.Millisecond, "it comes back at once", func() bool { return len(w.fake.Running("n3")) == 1 })
	})
}

func TestTheExitCodeThatStopsRestarts(t *testing.T) {
	story(t, func(t *testing.T, w *world) {
		w.running(nil)
		giveUp := func() {
			t.Helper()
			n := w.starts("n2")
			w.fake.Exit("n2", v1alpha1.ExitNoRestart)
			w.within(time.Second, "it is given up", func() bool { return w.status("n2").Phase == v1alpha1.NodeStopped })
			if st := w.status("n2"); !strings.Contains(st.Reason, "exit code 78") || st.NextStart != nil {
				t.Errorf("%+v", st)
			}
			w.during(10*time.Minute, "it stays down", func() bool { return w.starts("n2") == n })
		}
		giveUp()

		// Neither another controller nor another node's spec changes that.
		w.stop()
		w.begin()
		w.apply(func(c *v1alpha1.Cluster) { c.Spec.Nodes[0].Labels = map[string]string{"a": "b"} })
		w.during(time.Minute, "it stays down", func() bool { return w.starts("n2") == 1 })

		must(t, w.Restart(t.Context(), "", "n2", false))
		if st := w.status("n2"); st.PID == 0 || w.starts("n2") != 2 {
			t.Errorf("after restart: %+v", st)
		}
		w.within(5*time.Second, "it is ready", func() bool { return w.status("n2").Phase == v1alpha1.NodeRunning })
		giveUp()
		w.apply(func(c *v1alpha1.Cluster) { c.Spec.Nodes[1].Labels = map[string]string{"tried": "again"} })
		w.within(5*time.Second, "a new spec starts it", func() bool { return len(w.fake.Running("n2")) == 1 })
		w.within(5*time.Second, "it is ready", func() bool { return w.status("n2").Phase == v1alpha1.NodeRunning })
		giveUp()
		must(t, w.Start(t.Context(), "", "n2"))
		if len(w.fake.Running("n2")) != 1 {
			t.Error("start does not start it")
		}
	})
}

func TestRestartPolicies(t *testing.T) {
	for _, c := range []struct {
		policy v1alpha1.RestartPolicy
		code   int
		again  bool
	}{{v1alpha1.RestartNever, 1, false}, {v1alpha1.RestartOnFailure, 0, false}, {v1alpha1.RestartOnFailure, 1, true}, {v1alpha1.RestartAlways, 0, true}} {
		story(t, func(t *testing.T, w *world) {
			w.running(func(cl *v1alpha1.Cluster) { cl.Spec.RestartPolicy = c.policy })
			w.fake.Exit("n1", c.code)
			time.Sleep(time.Minute)
			synctest.Wait()
			if again := w.starts("n1") == 2; again != c.again {
				t.Errorf("%s, exit code %d: started again %v\n%s", c.policy, c.code, again, w.picture())
			}
		})
	}
}

func TestRestartKeepsTheQuorum(t *testing.T) {
	story(t, func(t *testing.T, w *world) {
		w.running(nil)
		must(t, w.Restart(t.Context(), "", "n1", false))
		st := w.status("n1")
		if w.starts("n1") != 2 || st.Restarts != 0 || st.PID != w.fake.Running("n1")[0] || !strings.Contains(st.LastTermination.Reason, "asked") {
			t.Errorf("%+v", st)
		}
		w.within(time.Second, "n1 is ready", func() bool { return w.status("n1").Phase == v1alpha1.NodeRunning })

		w.nodes.set(func() { w.nodes.unready["n3"] = "no leader" })
		w.within(2*time.Second, "n3 is not ready", func() bool {
			return !v1alpha1.IsConditionTrue(w.status("n3").Conditions, v1alpha1.NodeReady)
		})
		refused(t, w.Restart(t.Context(), "", "n1", false), v1alpha1.ReasonConflict, "quorum would be lost")
		if w.starts("n1") != 2 {
			t.Error("a refused restart did something")
		}
		must(t, w.Restart(t.Context(), "", "n1", true))
		if w.starts("n1") != 3 {
			t.Error("a forced restart did nothing")
		}
		refused(t, w.Restart(t.Context(), "", "n9", false), v1alpha1.ReasonNotFound, `nodes "n9" not found`)
	})
}

func TestRestartOfADeadNodeSkipsTheBackOff(t *testing.T) {
	story(t, func(t *testing.T, w *world) {
		w.running(func(c *v1alpha1.Cluster) { c.Spec.Backoff.Initial = c.Spec.Backoff.Max })
		must(t, w.Kill(t.Context(), "", "n2", syscall.SIGKILL))
		began := time.Now()
		must(t, w.Restart(t.Context(), "", "n2", false))
		if d := time.Since(began); d > 100*time.Millisecond || w.starts("n2") != 2 {
			t.Errorf("it took %v, %d starts", d, w.starts("n2"))
		}
	})
}

func TestANodeThatDoesNotEndIsKilledAfterItsGracePeriod(t *testing.T) {
	story(t, func(t *testing.T, w *world) {
		w.running(nil)
		w.fake.Stubborn("n1", true)
		began := time.Now()
		must(t, w.Restart(t.Context(), "", "n1", false))
		if d := time.Since(began); d < 10*time.Second || d > 11*time.Second {
			t.Errorf("it took %v, want the grace period of 10s", d)
		}
		if st := w.status("n1"); st.LastTermination.Signal != "SIGKILL" || st.Restarts != 0 {
			t.Errorf("%+v", st)
		}
	})
}

func TestStopAndStart(t *testing.T) {
	story(t, func(t *testing.T, w *world) {
		w.running(nil)
		must(t, w.Stop(t.Context(), "", "n2"))
		if len(w.fake.Running("n2")) != 0 {
			t.Error("stop returned before the process ended")
		}
		w.during(time.Minute, "it stays stopped", func() bool { return w.starts("n2") == 1 && w.status("n2").Phase == v1alpha1.NodeStopped })
		refused(t, w.Restart(t.Context(), "", "n2", false), v1alpha1.ReasonConflict, "start it")
		must(t, w.Start(t.Context(), "", "n2"))
		if st := w.status("n2"); st.PID == 0 || st.Restarts != 0 {
			t.Errorf("%+v", st)
		}
		must(t, w.Start(t.Context(), "", "n2")) // it runs already
		w.within(time.Second, "n2 is ready", func() bool { return w.status("n2").Phase == v1alpha1.NodeRunning })

		// A dead node makes a stop wait for better times: refused, and not done.
		w.nodes.set(func() { w.nodes.unready["n3"] = "behind" })
		time.Sleep(2 * time.Second)
		refused(t, w.Stop(t.Context(), "", "n1"), v1alpha1.ReasonConflict, "quorum would be lost")
		if cl, _ := w.cluster("demo"); cl.Spec.Nodes[0].Stopped {
			t.Error("a refused stop changed the spec")
		}
		// The same by apply is somebody's wish that waits.
		w.apply(func(c *v1alpha1.Cluster) { c.Spec.Nodes[0].Stopped = true })
		w.during(time.Minute, "n1 goes on", func() bool { return len(w.fake.Running("n1")) == 1 })
		w.nodes.set(func() { delete(w.nodes.unready, "n3") })
		w.within(3*time.Second, "n1 is stopped", func() bool { return len(w.fake.Running("n1")) == 0 })
		if _, warnings := w.apply(nil); len(warnings) != 1 || !strings.Contains(warnings[0], "starts n1") {
			t.Errorf("warnings %q", warnings)
		}
		w.within(3*time.Second, "n1 runs again", func() bool { return len(w.fake.Running("n1")) == 1 })
	})
}

func TestStopAllAndStartAll(t *testing.T) {
	story(t, func(t *testing.T, w *world) {
		refused(t, w.StartAll(t.Context(), ""), v1alpha1.ReasonConflict, "apply a cluster")
		w.o.DefaultCluster = w.demo(nil)
		must(t, w.StartAll(t.Context(), ""))
		if len(w.pids()) != 3 {
			t.Fatalf("running: %v", w.pids())
		}
		must(t, w.StopAll(t.Context(), ""))
		if len(w.pids()) != 0 {
			t.Errorf("still running: %v", w.pids())
		}
		w.stop()
		w.begin()
		w.during(time.Minute, "they stay stopped", func() bool { return len(w.pids()) == 0 })
		must(t, w.StartAll(t.Context(), "demo"))
		states, err := w.NodeStates("")
		must(t, err)
		for i, s := range states {
			if s.ID != []string{"n1", "n2", "n3"}[i] || !s.Running || s.PID == 0 || s.Cluster != "demo" || s.Restarts != 0 {
				t.Errorf("%+v", s)
			}
		}
		refused(t, w.StartAll(t.Context(), "other"), v1alpha1.ReasonNotFound, "other")
	})
}

func TestNewSettingsReachTheNodesOneAfterTheOther(t *testing.T) {
	story(t, func(t *testing.T, w *world) {
		w.running(nil)
		least := 3
		_, warnings := w.apply(func(c *v1alpha1.Cluster) { c.Spec.ElectionTimeout = v1alpha1.Duration(2 * time.Second) })
		if len(warnings) != 1 || !strings.Contains(warnings[0], "restarts the nodes") {
			t.Errorf("warnings %q", warnings)
		}
		w.within(30*time.Second, "all were restarted", func() bool {
			least = min(least, len(w.pids()))
			return w.starts("n1") == 2 && w.starts("n2") == 2 && w.starts("n3") == 2
		})
		if least < 2 {
			t.Errorf("only %d of 3 ran at one moment", least)
		}
		// What only the controller acts on disturbs nobody.
		w.apply(func(c *v1alpha1.Cluster) {
			c.Spec.ElectionTimeout = v1alpha1.Duration(2 * time.Second)
			c.Spec.TerminationGracePeriod = v1alpha1.Duration(time.Second)
		})
		w.during(time.Minute, "nobody is restarted", func() bool { return len(w.fake.Started()) == 6 })
	})
}

func TestAHungNodeIsUnknownAndNotKilled(t *testing.T) {
	story(t, func(t *testing.T, w *world) {
		w.running(nil)
		pid := w.status("n2").PID
		w.nodes.set(func() { w.nodes.hung["n2"] = true })
		w.within(10*time.Second, "it is Unknown", func() bool { return w.status("n2").Phase == v1alpha1.NodeUnknown })
		st := w.status("n2")
		if j := v1alpha1.FindCondition(st.Conditions, v1alpha1.NodeJoined); j.Status != v1alpha1.ConditionUnknown || !v1alpha1.IsConditionTrue(st.Conditions, v1alpha1.NodeProcessRunning) {
			t.Errorf("%+v", st.Conditions)
		}
		refused(t, w.Restart(t.Context(), "", "n1", false), v1alpha1.ReasonConflict, "quorum would be lost")
		w.during(time.Minute, "it lives on", func() bool { return w.status("n2").PID == pid })
		w.nodes.set(func() { w.nodes.hung["n2"] = false })
		w.within(2*time.Second, "it is back", func() bool { return w.status("n2").Phase == v1alpha1.NodeRunning })
	})
}

func TestATakenPortIsNamedAndTriedAgain(t *testing.T) {
	for _, c := range []struct {
		network string
		port    func(v1alpha1.NodeSpec) int
		says    string
	}{
		{"tcp", func(n v1alpha1.NodeSpec) int { return n.Port }, "port 9102 is in use by pid 4711 (python3)"},
		{"udp", func(n v1alpha1.NodeSpec) int { return n.PeerPort }, "UDP port 9202 is in use by pid 4711 (python3)"},
	} {
		t.Run(c.network, func(t *testing.T) {
			story(t, func(t *testing.T, w *world) {
				cl := w.demo(nil)
				addr := address(cl.Spec.Nodes[1], c.port(cl.Spec.Nodes[1]))
				w.fake.TakePort(c.network, addr, 4711, "python3")
				_, err := w.PutCluster(cl, false)
				refused(t, err, v1alpha1.ReasonInvalid, "spec.nodes[1].port: "+c.says)
				if list, _ := w.Clusters(""); len(list.Items) != 0 {
					t.Error("a refused cluster was stored")
				}
				w.fake.FreePort(c.network, addr)
				w.running(nil)
				w.fake.TakePort(c.network, addr, 4711, "python3")
				must(t, w.Kill(t.Context(), "", "n2", syscall.SIGKILL))
				w.within(5*time.Second, "the holder is named", func() bool {
					st := w.status("n2")
					return st.Phase == v1alpha1.NodePending && strings.Contains(st.Reason, c.says) && st.NextStart != nil
				})
				refused(t, w.Restart(t.Context(), "", "n2", false), v1alpha1.ReasonConflict, "pid 4711")
				time.Sleep(10 * time.Minute)
				w.fake.FreePort(c.network, addr)
				w.within(70*time.Second, "it runs", func() bool { return w.status("n2").Phase == v1alpha1.NodeRunning })
				if st := w.status("n2"); st.Restarts != 1 {
					t.Errorf("%d restarts, want 1: starts that did not happen do not count", st.Restarts)
				}
			})
		})
	}
}

func TestAStartThatFailsIsToldAndTriedAgain(t *testing.T) {
	story(t, func(t *testing.T, w *world) {
		w.fake.Refuse("n1", errors.New("read-only file system"))
		w.apply(nil)
		w.within(5*time.Second, "the reason is told", func() bool {
			return strings.Contains(w.status("n1").Reason, "read-only file system") && len(w.pids()) == 2
		})
		w.fake.Refuse("n1", nil)
		w.within(70*time.Second, "it runs", func() bool { return len(w.pids()) == 3 })
	})
}

func TestDeleteStopsTheNodesAndKeepsTheData(t *testing.T) {
	for _, purge := range []bool{false, true} {
		story(t, func(t *testing.T, w *world) {
			w.running(nil)
			dir := filepath.Join(w.dir, "data", "n1")
			must(t, writeFile(filepath.Join(dir, "wal", "1"), []byte("data")))
			refused(t, w.DeleteCluster(t.Context(), "other", false, false), v1alpha1.ReasonNotFound, "other")
			must(t, w.DeleteCluster(t.Context(), "demo", false, true))
			if len(w.pids()) != 3 {
				t.Error("a dry run stopped nodes")
			}
			must(t, w.DeleteCluster(t.Context(), "demo", purge, false))
			nodes, err := w.Nodes("")
			must(t, err)
			if len(w.pids()) != 0 || len(nodes.Items) != 0 || exists(w.clusterFile("demo")) || exists(dir) == purge {
				t.Errorf("left: %v, %v, %v, data %v", w.pids(), nodes.Items, exists(w.clusterFile("demo")), exists(dir))
			}
			w.during(time.Minute, "nothing comes back", func() bool { return len(w.pids()) == 0 })
			w.running(nil) // a new cluster of the same name
		})
	}
}

func TestShutdownStopsNodesAndKeepsWhatIsWanted(t *testing.T) {
	for _, withData := range []bool{false, true} {
		story(t, func(t *testing.T, w *world) {
			w.running(nil)
			dir := filepath.Join(w.dir, "data", "n2")
			must(t, writeFile(filepath.Join(dir, "wal", "1"), []byte("data")))
			w.fake.Stubborn("n3", true)
			out, err := w.Shutdown(t.Context(), withData)
			must(t, err)
			if len(w.pids()) != 0 || len(out.Stopped) != 3 || exists(dir) == withData || (len(out.Purged) == 1) != withData {
				t.Errorf("%+v, left %v", out, w.pids())
			}
			select {
			case <-w.endc:
			default:
				t.Error("the controller does not end")
			}
			_, err = w.PutCluster(w.demo(nil), false)
			refused(t, err, v1alpha1.ReasonServiceUnavailable, "shut down")
			w.stop()
			w.begin()
			w.within(5*time.Second, "the next controller starts them again", func() bool { return len(w.pids()) == 3 })
			if st := w.status("n1"); st.Restarts != 0 {
				t.Errorf("%d restarts", st.Restarts)
			}
		})
	}
}

// The nodes of a controller that died are full citizens of the next one.
func TestNodesOfADeadControllerAreAdopted(t *testing.T) {
	story(t, func(t *testing.T, w *world) {
		w.running(nil)
		w.fake.Exit("n2", 1) // its restart is counted
		w.within(5*time.Second, "n2 is back", func() bool { return w.status("n2").Phase == v1alpha1.NodeRunning })
		before := w.pids()
		w.stop()
		w.begin()
		st := w.status("n2") // as soon as the controller answers
		if st.PID != before[1] || st.Restarts != 1 || st.Incarnation != 7 {
			t.Errorf("%+v", st)
		}
		w.during(time.Minute, "they go on", func() bool { return reflect.DeepEqual(w.pids(), before) && len(w.fake.Started()) == 4 })
		if st := w.status("n2"); st.Phase != v1alpha1.NodeRunning || st.PID != before[1] || st.Restarts != 1 || st.Reason != "" {
			t.Errorf("%+v", st)
		}
		if got := w.toldOf("n1", v1alpha1.EventAdopted); len(got) != 1 || !strings.Contains(got[0], fmt.Sprint("pid ", before[0])) {
			t.Errorf("events %q", got)
		}

		// How an adopted one ends is known, and its exit code that stops restarts counts.
		w.fake.Exit("n1", 1)
		w.within(2*time.Second, "it is started like any other", func() bool {
			st := w.status("n1")
			return st.Phase == v1alpha1.NodeRunning && st.Restarts == 1 && st.LastTermination.ExitCode == 1
		})
		must(t, w.Restart(t.Context(), "", "n3", false))
		if st := w.status("n3"); st.PID == before[2] || st.PID == 0 || st.Restarts != 0 {
			t.Errorf("%+v", st)
		}
		w.within(2*time.Second, "n3 is ready", func() bool { return w.status("n3").Phase == v1alpha1.NodeRunning })
		w.stop()
		w.begin()
		w.fake.Exit("n3", v1alpha1.ExitNoRestart)
		w.within(time.Second, "it is given up", func() bool { return strings.Contains(w.status("n3").Reason, "exit code 78") })
		must(t, w.Start(t.Context(), "", "n3"))

		out, err := w.Shutdown(t.Context(), false)
		must(t, err)
		if len(w.pids()) != 0 {
			t.Errorf("down left %v (%+v)", w.pids(), out)
		}
	})
}

// New settings reach adopted nodes too, one after the other; the same settings
// disturb nobody.
func TestAdoptedNodesTakeNewSettings(t *testing.T) {
	story(t, func(t *testing.T, w *world) {
		w.running(nil)
		before := w.pids()
		w.stop()
		w.begin()
		w.apply(nil)
		w.during(time.Minute, "they go on", func() bool { return reflect.DeepEqual(w.pids(), before) })
		least := 3
		w.apply(func(c *v1alpha1.Cluster) { c.Spec.ElectionTimeout = v1alpha1.Duration(2 * time.Second) })
		w.within(30*time.Second, "all were restarted", func() bool {
			least = min(least, len(w.pids()))
			return w.starts("n1") == 2 && w.starts("n2") == 2 && w.starts("n3") == 2
		})
		if least < 2 {
			t.Errorf("only %d of 3 ran at one moment", least)
		}
	})
}

// On an older kernel nobody but the parent learns how a process ended.
func TestAnAdoptedNodeWhoseEndIsUnknownIsStartedAgain(t *testing.T) {
	story(t, func(t *testing.T, w *world) {
		w.running(nil)
		w.fake.Forgetful(true)
		w.stop()
		w.begin()
		w.fake.Exit("n1", v1alpha1.ExitNoRestart)
		w.within(2*time.Second, "it is started again", func() bool { return w.starts("n1") == 2 })
		if st := w.status("n1"); st.LastTermination.ExitCode != -1 || !strings.Contains(st.LastTermination.Reason, "unknown exit code") {
			t.Errorf("%+v", st.LastTermination)
		}
	})
}

// The pid of a dead node belongs to another process when the controller returns:
// that one is neither taken for the node nor touched.
func TestAPidThatWasGivenAwayIsNotAdopted(t *testing.T) {
	story(t, func(t *testing.T, w *world) {
		w.running(nil)
		pid := w.status("n2").PID
		w.stop()
		w.fake.Exit("n2", 1)
		if !w.fake.Recycle(pid, "an innocent process") {
			t.Fatal("the pid is not free")
		}
		w.begin()
		w.within(time.Second, "n2 runs in another process", func() bool { st := w.status("n2"); return st.PID != 0 && st.PID != pid })
		must(t, w.Kill(t.Context(), "", "n2", syscall.SIGKILL))
		w.during(time.Minute, "the innocent process lives", func() bool { return len(w.fake.Running("an innocent process")) == 1 })
	})
}

// A controller that died in the middle of a restart: the next one ends it.
func TestADrainThatAControllerBeganIsEnded(t *testing.T) {
	for _, sent := range []bool{true, false} {
		story(t, func(t *testing.T, w *world) {
			w.running(nil)
			w.fake.Stubborn("n1", true)
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan struct{})
			go func() { _ = w.Restart(ctx, "", "n1", false); close(done) }()
			w.within(time.Second, "it drains", func() bool { return w.status("n1").Phase == v1alpha1.NodeDraining })
			w.stop()
			cancel()
			<-done
			if sent { // the signal had arrived, and it ends while nobody looks
				w.fake.Exit("n1", 0)
			} else {
				w.fake.Stubborn("n1", false)
			}
			w.begin()
			w.within(2*time.Second, "it runs again", func() bool { return w.starts("n1") == 2 })
			if st := w.status("n1"); st.Restarts != 0 {
				t.Errorf("%+v", st)
			}
		})
	}
}

func TestANodeThatDiedMeanwhileIsStartedAtOnce(t *testing.T) {
	story(t, func(t *testing.T, w *world) {
		w.running(nil)
		w.stop()
		w.fake.Exit("n1", 1)
		w.fake.Exit("n2", 1)
		w.begin()
		w.within(300*time.Millisecond, "all run again", func() bool { return len(w.pids()) == 3 })
		if st := w.status("n1"); st.Restarts != 1 || st.LastTermination == nil || w.starts("n3") != 1 {
			t.Errorf("%+v", st)
		}
	})
}

func TestABackOffOutlivesTheController(t *testing.T) {
	story(t, func(t *testing.T, w *world) {
		w.running(nil)
		for range 5 {
			w.within(70*time.Second, "n1 runs", func() bool { return len(w.fake.Running("n1")) == 1 })
			w.fake.Exit("n1", 1)
			synctest.Wait()
		}
		w.stop()
		w.begin()
		w.during(14*time.Second, "its back-off of 16s goes on", func() bool { return len(w.fake.Running("n1")) == 0 })
		w.within(4*time.Second, "it is over", func() bool { return len(w.fake.Running("n1")) == 1 })
	})
}

// toldOf are the events of one reason about a node.
func (w *world) toldOf(id, reason string) (lines []string) {
	for _, line := range w.told(v1alpha1.KindNode, id) {
		if strings.Contains(line, " "+reason+"×") {
			lines = append(lines, line)
		}
	}
	return lines
}

// byHand starts a node as a person does; its ports are taken then.
func (w *world) byHand(cl *v1alpha1.Cluster, id string) (pid int) {
	w.t.Helper()
	p, err := w.fake.Start(proc.Spec{Node: id})
	must(w.t, err)
	pid = p.Identity().PID
	spec, _ := cl.Spec.Node(id)
	for _, port := range []int{spec.Port, spec.PeerPort, spec.HTTPPort} {
		w.fake.TakePort("tcp", address(spec, port), pid, "wiberctl")
	}
	return pid
}

func (w *world) freePorts(cl *v1alpha1.Cluster, id string) {
	spec, _ := cl.Spec.Node(id)
	for _, port := range []int{spec.Port, spec.PeerPort, spec.HTTPPort} {
		w.fake.FreePort("tcp", address(spec, port))
	}
}

// Somebody started n1 by hand, or a controller died between the start and its
// record, or the state folder was removed: the node itself says who it is.
func TestANodeWithoutARecordIsAdopted(t *testing.T) {
	story(t, func(t *testing.T, w *world) {
		cl := w.demo(nil)
		pid := w.byHand(cl, "n1")
		w.running(nil)
		if st := w.status("n1"); st.PID != pid || w.starts("n1") != 1 || st.Restarts != 0 || st.Reason != "" {
			t.Errorf("%+v", st)
		}
		if got := w.toldOf("n1", v1alpha1.EventAdopted); len(got) != 1 {
			t.Errorf("events %q", got)
		}
		w.during(time.Minute, "it goes on", func() bool { return w.status("n1").PID == pid })
		// From now on it is recorded.
		w.stop()
		w.begin()
		if st := w.status("n1"); st.PID != pid {
			t.Errorf("%+v", st)
		}
		w.during(time.Minute, "it goes on", func() bool { return w.status("n1").PID == pid })

		// It is stopped and started like any other.
		w.freePorts(cl, "n1")
		must(t, w.Restart(t.Context(), "", "n1", false))
		if st := w.status("n1"); st.PID == pid || st.PID == 0 {
			t.Errorf("%+v", st)
		}

		// One that should not run, and was started by hand, is stopped.
		w.within(time.Second, "n1 is ready", func() bool { return w.status("n1").Phase == v1alpha1.NodeRunning })
		must(t, w.Stop(t.Context(), "", "n1"))
		w.byHand(cl, "n1")
		w.within(15*time.Second, "it is stopped", func() bool { return len(w.fake.Running("n1")) == 0 })
	})
}

// Who only claims to be the node is named, left alone, and not adopted.
func TestAStrangerOnANodesPortIsNotAdopted(t *testing.T) {
	for name, c := range map[string]struct {
		change func(id *nodeIdentity)
		says   string
	}{
		"another cluster":       {func(id *nodeIdentity) { id.Cluster = "prod" }, "node n1 of cluster prod"},
		"another node":          {func(id *nodeIdentity) { id.Node = "n2" }, "node n2 of cluster demo"},
		"another data folder":   {func(id *nodeIdentity) { id.DataDir = "/elsewhere/n1" }, "/elsewhere/n1"},
		"another boot":          {func(id *nodeIdentity) { id.BootID = "another" }, "another machine or boot"},
		"a pid that nobody has": {func(id *nodeIdentity) { id.PID = 99999 }, "pid 99999, which cannot be found"},
	} {
		t.Run(name, func(t *testing.T) {
			story(t, func(t *testing.T, w *world) {
				w.running(nil)
				cl := w.demo(nil)
				must(t, w.Kill(t.Context(), "", "n1", syscall.SIGKILL))
				pid := w.byHand(cl, "n1")
				answer := nodeIdentity{Cluster: "demo", Node: "n1", PID: pid, BootID: proc.FakeBootID, DataDir: filepath.Join(cl.Spec.DataRoot, "n1")}
				right := answer
				c.change(&answer)
				addr := address(cl.Spec.Nodes[0], cl.Spec.Nodes[0].HTTPPort)
				w.nodes.set(func() { w.nodes.identity[addr] = answer })
				w.within(5*time.Second, "it is named", func() bool {
					st := w.status("n1")
					return st.PID == 0 && st.Phase == v1alpha1.NodePending && strings.Contains(st.Reason, c.says)
				})
				w.during(time.Minute, "it is left alone", func() bool { return w.status("n1").PID == 0 && len(w.fake.Running("n1")) == 1 && w.starts("n1") == 2 })
				if got := w.toldOf("n1", v1alpha1.EventRefused); name != "a pid that nobody has" && len(got) == 0 {
					t.Error("nobody is told")
				}
				w.nodes.set(func() { w.nodes.identity[addr] = right })
				w.within(70*time.Second, "the right one is adopted", func() bool { return w.status("n1").PID == pid })
			})
		})
	}
}

// A controller that died between a start and its record left a process that does
// not answer yet. The lock of its log keeps a second one away, until it does.
func TestAStartThatNobodyRecordedIsAdoptedOnceItAnswers(t *testing.T) {
	story(t, func(t *testing.T, w *world) {
		p, err := w.fake.Start(proc.Spec{Node: "n1"})
		must(t, err)
		w.nodes.set(func() { w.nodes.hung["n1"] = true })
		w.fake.Refuse("n1", fmt.Errorf("open its log: %w", proc.ErrLogInUse))
		w.apply(nil)
		w.within(time.Second, "it is told", func() bool { return strings.Contains(w.status("n1").Reason, "still writes to it") })
		w.during(time.Minute, "no second one is started", func() bool { return reflect.DeepEqual(w.fake.Running("n1"), []int{p.Identity().PID}) })
		w.nodes.set(func() { w.nodes.hung["n1"] = false })
		w.within(2*time.Second, "it is adopted", func() bool { return w.status("n1").PID == p.Identity().PID })
		if st := w.status("n1"); st.Restarts != 0 {
			t.Errorf("%+v", st)
		}
	})
}

func TestTheLogsOfANodeAreFoundNewestFirst(t *testing.T) {
	story(t, func(t *testing.T, w *world) {
		w.running(nil)
		dir := filepath.Join(w.dir, "data", "n2", "logs")
		for _, name := range []string{"console.log", "console.9.log", "console.10.log", "notes.txt"} {
			must(t, writeFile(filepath.Join(dir, name), []byte("text")))
		}
		logs := func(id string) ([]string, error) {
			path, err := w.NodeLog("", id)
			if err != nil {
				return nil, err
			}
			return proc.LogFiles(path)
		}
		files, err := logs("n2")
		must(t, err)
		if want := []string{filepath.Join(dir, "console.log"), filepath.Join(dir, "console.10.log"), filepath.Join(dir, "console.9.log")}; !reflect.DeepEqual(files, want) {
			t.Errorf("logs %q, want %q", files, want)
		}
		if files, err := logs("n1"); len(files) != 0 || err != nil {
			t.Errorf("logs of a node that wrote none: %q, %v", files, err)
		}
		_, err = logs("n9")
		refused(t, err, v1alpha1.ReasonNotFound, "n9")
	})
}

// A pass decides to wait for a moment, and the moment comes before the pass is
// over: it is not slept through until the next resync.
func TestABackOffThatEndsDuringAPassIsSeen(t *testing.T) {
	story(t, func(t *testing.T, w *world) {
		w.pass(time.Second)
		now := w.clock.Mono()
		m := &machine{decidedAt: now - 2*time.Millisecond, notUntil: now - time.Millisecond}
		if again := w.nextLook(m, plan.Action{Kind: plan.Wait, At: m.notUntil}); again != time.Millisecond {
			t.Errorf("the next look is in %v", again)
		}
		m.decidedAt = now
		if again := w.nextLook(m, plan.Action{}); again != resync {
			t.Errorf("with nothing to wait for the next look is in %v", again)
		}
	})
}
