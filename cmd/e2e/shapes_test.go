package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/wiber/wiber/manifests/v1alpha1"
)

// Clusters of one and of five nodes work, and a lost minority does not stop them.
func TestOneAndFiveNodes(t *testing.T) {
	if testing.Short() {
		t.Skip("it starts real clusters")
	}
	for _, nodes := range []int{1, 5} {
		t.Run(fmt.Sprint(nodes), func(t *testing.T) {
			c := newCluster(t, manifest{nodes: nodes, spec: fmt.Sprintf("  replicationFactor: %d\n", nodes)})
			c.start()
			receipt := c.run("pub", "shape", "one")
			want := fmt.Sprintf(" eps=[1-9]\\d* .*synced=[%d-%d]/%d", nodes/2+1, nodes, nodes)
			if nodes == 1 {
				want = " eps=0 .*synced=1/1" // nobody else's clock can differ
			}
			if !regexp.MustCompile(want).MatchString(receipt) {
				t.Errorf("the receipt is %q, not like %q", receipt, want)
			}
			for range nodes / 2 {
				c.run("stop", c.leader("shape"))
			}
			c.run("pub", "shape", "two")
			if got := c.run("history", "shape", "-o", "value"); got != "one\ntwo\n" {
				t.Errorf("the history is %q", got)
			}
			c.run("down")
			c.up.Wait()
			c.up = nil
			c.start() // the file starts stopped nodes, too
			if got := c.run("history", "shape", "-o", "value"); got != "one\ntwo\n" {
				t.Errorf("after down and up the history is %q", got)
			}
		})
	}
}

// A replication factor that placement would have to spread is refused.
func TestFewerReplicasThanNodesAreRefused(t *testing.T) {
	if testing.Short() {
		t.Skip("it starts a process")
	}
	c := newCluster(t, manifest{nodes: 5})
	_, problem, err := c.try("up", "-f", "cluster.yaml")
	if err == nil || !strings.Contains(problem, "replicationFactor") || !strings.Contains(problem, "not supported yet") {
		t.Errorf("got %v\n%s", err, problem)
	}
}

// Nodes may listen on another address.
func TestOtherHostAndPorts(t *testing.T) {
	if testing.Short() {
		t.Skip("it starts a real cluster")
	}
	c := newCluster(t, manifest{host: "127.0.0.7"})
	c.start()
	c.run("pub", "shape", "there")
	if got := c.run("history", "shape", "--node", "n2", "-o", "value"); got != "there\n" {
		t.Errorf("the history is %q", got)
	}
	if isFree("127.0.0.7", c.port["n1"]) {
		t.Error("nobody listens on 127.0.0.7")
	}
	if !isFree("127.0.0.1", c.port["n1"]) {
		t.Error("a node listens on 127.0.0.1 as well")
	}
}

// A crashed controller leaves nodes that live on; the next one adopts them, names
// them with their pids, and starts them again when they end.
func TestUpOverACrashedRun(t *testing.T) {
	if testing.Short() {
		t.Skip("it starts a real cluster")
	}
	c := newCluster(t, manifest{})
	c.start()
	c.run("pub", "shape", "before")
	pids := map[string]int{}
	for _, node := range c.names {
		pids[node] = c.pid(node)
	}
	c.up.Process.Kill()
	c.up.Wait()
	c.up = nil
	// Nothing is lost while there is no controller.
	address := strings.Join(c.addresses(c.names...), ",")
	c.run("pub", "shape", "between", "--nodes", address)

	c.start()
	for _, node := range c.names {
		if pid := c.pid(node); pid != pids[node] {
			t.Errorf("%s has pid %d, had %d: it was restarted", node, pid, pids[node])
		}
	}
	eventually(t, 30*time.Second, "up names the nodes that it found", func() error {
		log, err := os.ReadFile(filepath.Join(c.dir, "up.log"))
		if err != nil {
			return err
		}
		for node, pid := range pids {
			if !regexp.MustCompile(fmt.Sprintf(`node/%s +Adopted +pid %d, started by an earlier controller`, node, pid)).Match(log) {
				return fmt.Errorf("up does not name %s with its pid %d:\n%s", node, pid, log)
			}
		}
		return nil
	})
	if err := syscall.Kill(pids["n2"], syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, 30*time.Second, "n2 was started again", func() error {
		if pid := c.pid("n2"); pid == pids["n2"] {
			return fmt.Errorf("it still has pid %d", pid)
		}
		return nil
	})
	c.awaitReady(c.names...)
	if got := c.run("history", "shape", "-o", "value"); got != "before\nbetween\n" {
		t.Errorf("the history is %q", got)
	}
}

// runNode runs one node by hand until it ends or the limit is over.
func (c *cluster) runNode(limit time.Duration, node, dataRoot string) (output string, code int) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	cmd := c.commandContext(ctx, "node", "--id", node, "--config", "cluster.yaml", "--data-root", dataRoot)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	if ctx.Err() != nil {
		c.t.Fatalf("%s still runs after %s:\n%s", node, limit, out.String())
	}
	if err == nil {
		return out.String(), 0
	}
	return out.String(), cmd.ProcessState.ExitCode()
}

// A folder that another process uses is named, and that process is not disturbed.
func TestLockedFolderIsNamed(t *testing.T) {
	if testing.Short() {
		t.Skip("it starts a real cluster")
	}
	c := newCluster(t, manifest{})
	c.start()
	out, code := c.runNode(20*time.Second, "n1", ".data")
	if code == 0 || !strings.Contains(out, filepath.Join(c.dir, ".data", "n1")) {
		t.Errorf("exit code %d:\n%s", code, out)
	}
	c.run("pub", "shape", "undisturbed")
	if _, err := os.Stat(filepath.Join(c.dir, ".data", "n1", "logs", "console.1.log")); err == nil {
		t.Error("the log of the running node was moved away")
	}
}

// A node whose folder was erased exits with the code that stops restarts.
func TestErasedFolderExitsWith78(t *testing.T) {
	if testing.Short() {
		t.Skip("it starts a real cluster")
	}
	c := newCluster(t, manifest{})
	c.start()
	c.run("stop", "n2")
	if err := os.RemoveAll(filepath.Join(c.dir, ".data", "n2")); err != nil {
		t.Fatal(err)
	}
	out, code := c.runNode(20*time.Second, "n2", ".data")
	if code != v1alpha1.ExitNoRestart || !strings.Contains(out, "erased") {
		t.Errorf("exit code %d:\n%s", code, out)
	}
}
