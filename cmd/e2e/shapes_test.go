package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/wiber/wiber/manifests/v1alpha1"
	"github.com/wiber/wiber/topics/client"
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
			c.run("pub", "shape", "one")
			receipt := c.run("pub", "shape", "two")
			want := fmt.Sprintf(" eps=-1 .*synced=[%d-%d]/%d", nodes/2+1, nodes, nodes)
			if nodes == 1 {
				want = " eps=0 .*synced=1/1" // nobody else's clock can differ
			}
			if !regexp.MustCompile(want).MatchString(receipt) {
				t.Errorf("the receipt is %q, not like %q", receipt, want)
			}
			for range nodes / 2 {
				c.run("stop", c.leader("shape"))
			}
			c.run("pub", "shape", "three")
			if got := c.run("history", "shape", "-o", "value"); got != "one\ntwo\nthree\n" {
				t.Errorf("the history is %q", got)
			}
			c.run("down")
			c.up.Wait()
			c.up = nil
			c.start() // the file starts stopped nodes, too
			if got := c.run("history", "shape", "-o", "value"); got != "one\ntwo\nthree\n" {
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

// A crashed controller leaves nodes that live on; the next one names them with
// their pids and leaves them alone, and starts them again when they end.
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
			t.Errorf("%s has pid %d, had %d: it was not left alone", node, pid, pids[node])
		}
	}
	log, err := os.ReadFile(filepath.Join(c.dir, "up.log"))
	if err != nil {
		t.Fatal(err)
	}
	for node, pid := range pids {
		if !regexp.MustCompile(fmt.Sprintf(`left alone.* node=%s pid=%d`, node, pid)).Match(log) {
			t.Errorf("up does not name %s with its pid %d:\n%s", node, pid, log)
		}
	}
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

// mountSmall mounts a file system in memory at a new folder, or skips the test.
func mountSmall(t *testing.T, options string) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, options); err != nil {
		t.Skipf("NOT TESTED: a small file system cannot be mounted here: %v", err)
	}
	t.Cleanup(func() { syscall.Unmount(dir, syscall.MNT_DETACH) })
	return dir
}

// A folder that cannot be written is named.
func TestReadOnlyFolderIsNamed(t *testing.T) {
	if testing.Short() {
		t.Skip("it starts a process")
	}
	c := newCluster(t, manifest{})
	dir := mountSmall(t, "ro,size=1m")
	out, code := c.runNode(20*time.Second, "n1", dir)
	if code == 0 || !strings.Contains(out, dir) || !strings.Contains(out, "read-only file system") {
		t.Errorf("exit code %d:\n%s", code, out)
	}
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

// A full disk ends its node with a clear error; the others go on; with space it
// comes back and catches up.
func TestFullDisk(t *testing.T) {
	if testing.Short() {
		t.Skip("it starts real nodes")
	}
	c := newCluster(t, manifest{})
	small := mountSmall(t, "size=24m")
	roots := map[string]string{"n1": filepath.Join(c.dir, ".data"), "n2": filepath.Join(c.dir, ".data"), "n3": small}
	running := map[string]*exec.Cmd{}
	outputs := map[string]*bytes.Buffer{}
	start := func(node string) {
		cmd := c.command("node", "--id", node, "--config", filepath.Join(c.dir, "cluster.yaml"), "--data-root", roots[node])
		outputs[node] = new(bytes.Buffer)
		cmd.Stdout, cmd.Stderr = outputs[node], outputs[node]
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		running[node] = cmd
	}
	for _, node := range c.names {
		start(node)
	}
	t.Cleanup(func() {
		for _, cmd := range running {
			cmd.Process.Kill()
			cmd.Wait()
		}
	})
	endc := make(chan error, 1)
	go func() { endc <- running["n3"].Wait() }()

	cl := c.client(client.Options{}, "n1", "n2")
	producer, err := cl.Producer(client.ProducerOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer producer.Close()
	const messages, size = 600, 64 << 10
	for i := range messages {
		value := bytes.Repeat([]byte{byte(i)}, size)
		if err := producer.Send(t.Context(), client.Message{Topic: "full", Value: value}, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := producer.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	select {
	case err = <-endc:
	case <-clock.NewTimer(30 * time.Second).C():
		t.Fatal("n3 lives on with a full disk")
	}
	if err == nil || !strings.Contains(outputs["n3"].String(), "no space left on device") {
		t.Errorf("n3 ended with %v:\n%s", err, outputs["n3"].String())
	}
	if err := syscall.Mount("tmpfs", small, "tmpfs", syscall.MS_REMOUNT, "size=512m"); err != nil {
		t.Fatalf("make the disk larger: %v", err)
	}
	start("n3")
	c.awaitSettled()
	count := func(node string) int {
		out := c.run("history", "full", "--nodes", strings.Join(c.addresses(c.names...), ","), "--node", node, "--read", "local", "-o", "json")
		return strings.Count(out, "\n")
	}
	for _, node := range c.names {
		if n := count(node); n != messages {
			t.Errorf("%s holds %d of %d messages", node, n, messages)
		}
	}
}
