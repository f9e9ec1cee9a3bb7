package e2e

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/wiber/wiber/manifests/v1alpha1"
)

// BenchmarkReplacement is "make replace": how long after a node's death its
// replacement is started, beyond the back-off that is due. An iteration is one
// kill -9 of a node; "adopted" kills one that an earlier controller had started.
// The start is the moment at which the log of the new process takes the place of
// the old one's, just before exec; it is looked for each millisecond.
func BenchmarkReplacement(b *testing.B) {
	for _, adopted := range []bool{false, true} {
		name := "started"
		if adopted {
			name = "adopted"
		}
		b.Run(name, func(b *testing.B) {
			s := newSupervisor(b, manifest{})
			s.apply()
			machine(b, s.dir)
			numbers := sample{}
			for i := 0; b.Loop(); i++ {
				if adopted {
					s.kill()
					s.begin()
					s.awaitReady(s.names...)
				}
				s.replacement(s.names[i%len(s.names)], numbers)
			}
			numbers.report(b, "beyond-back-off-ms", "seen-after-ms", "exec-to-ready-ms")
		})
	}
}

// replacement kills a node and adds what it cost to numbers.
func (s *supervisor) replacement(node string, numbers sample) {
	s.t.Helper()
	log := filepath.Join(s.dir, ".data", node, "logs", "console.log")
	old, err := os.Stat(log)
	if err != nil {
		s.t.Fatal(err)
	}
	pid := s.pid(node)
	killed, killedAt := clock.Mono(), clock.Now()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		s.t.Fatal(err)
	}
	var st v1alpha1.NodeStatus
	eventually(s.t, 10*time.Second, "the death is seen", func() error {
		nodes, err := s.nodes()
		if err != nil {
			return err
		}
		if st = nodes[node].Status; st.NextStart == nil || st.LastTermination == nil {
			return errors.New("no next start is named")
		}
		return nil
	})
	ticker := clock.NewTicker(time.Millisecond)
	defer ticker.Stop()
	for now, err := os.Stat(log); err != nil || os.SameFile(old, now); now, err = os.Stat(log) {
		if clock.Mono()-killed > 30*time.Second {
			s.t.Fatalf("%s was not started again", node)
		}
		<-ticker.C()
	}
	started := clock.Mono()
	backOff := st.NextStart.Sub(st.LastTermination.At.Time)
	millis := func(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
	numbers.add("beyond-back-off-ms", millis(started-killed-backOff))
	numbers.add("seen-after-ms", millis(st.LastTermination.At.Sub(killedAt)))
	s.awaitReady(node)
	numbers.add("exec-to-ready-ms", millis(clock.Mono()-started))
	s.awaitReady(s.names...)
}
