package e2e

import (
	"bytes"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/wiber/wiber/topics/client"
)

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
