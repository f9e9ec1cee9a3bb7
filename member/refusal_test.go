package member

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// ends waits for a node that must end by itself, and returns how it did.
func (n *testNode) ends(t *testing.T) error {
	t.Helper()
	select {
	case err := <-n.done:
		return err
	case <-time.After(20 * time.Second):
		t.Fatal("the node goes on")
		return nil
	}
}

// exitCode is what the process would end with.
func exitCode(err error) int {
	var e interface{ ExitCode() int }
	if errors.As(err, &e) {
		return e.ExitCode()
	}
	return 1
}

func TestANodeSaysWhyItMustNotRun(t *testing.T) {
	c := testCluster(t, 3)
	var nodes []*testNode
	for _, s := range c.Spec.Nodes {
		nodes = append(nodes, startNode(t, c, s.ID))
	}
	v := dialNode(t, c, "n1")
	if got := v.ask("PUB orders one"); !strings.HasPrefix(got, "+ACK orders 0 ") {
		t.Fatal(got)
	}

	t.Run("a second process in the same folder", func(t *testing.T) {
		err := startNode(t, c, "n1").ends(t)
		if err == nil || !strings.Contains(err.Error(), "another process runs node n1") {
			t.Fatalf("err = %v", err)
		}
	})

	v = dialNode(t, c, "n3")
	v.say("HISTORY orders read=linearizable") // so n3's log holds it
	if got := v.line(); !strings.HasPrefix(got, "MSG orders - 0 ") {
		t.Fatal(got)
	}
	if err := nodes[2].end(t); err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join(c.Spec.DataRoot, "n3")
	aside := folder + ".aside"

	t.Run("a folder that was erased", func(t *testing.T) {
		if err := os.Rename(folder, aside); err != nil {
			t.Fatal(err)
		}
		err := startNode(t, c, "n3").ends(t)
		if exitCode(err) != ExitNoRestart || !strings.Contains(err.Error(), "erased") {
			t.Fatalf("err = %v", err)
		}
		if err := os.RemoveAll(folder); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(aside, folder); err != nil {
			t.Fatal(err)
		}
	})

	t.Run("another number of shards", func(t *testing.T) {
		other := c.Clone()
		other.Spec.Shards = 7
		err := startNode(t, other, "n3").ends(t)
		if exitCode(err) != ExitNoRestart || !strings.Contains(err.Error(), "shards: 4") || !strings.Contains(err.Error(), "shards: 7") {
			t.Fatalf("err = %v", err)
		}
	})

	t.Run("another cluster's folder", func(t *testing.T) {
		other := c.Clone()
		other.Name = "prod"
		err := startNode(t, other, "n3").ends(t)
		if exitCode(err) != ExitNoRestart || !strings.Contains(err.Error(), `"demo"`) {
			t.Fatalf("err = %v", err)
		}
	})

	t.Run("a damaged log", func(t *testing.T) {
		segments, err := filepath.Glob(filepath.Join(folder, "log", "*.wal"))
		if err != nil || len(segments) == 0 {
			t.Fatalf("no segments: %v", err)
		}
		flip(t, segments[0], 4096+20)
		err = startNode(t, c, "n3").ends(t)
		if exitCode(err) != ExitNoRestart || !strings.Contains(err.Error(), filepath.Base(segments[0])) || !strings.Contains(err.Error(), "offset") {
			t.Fatalf("err = %v", err)
		}
		flip(t, segments[0], 4096+20)
	})

	n3 := startNode(t, c, "n3")
	v = dialNode(t, c, "n3")
	v.say("HISTORY orders read=linearizable")
	if got := v.line(); !strings.HasPrefix(got, "MSG orders - 0 ") {
		t.Fatal(got)
	}
	for _, n := range []*testNode{nodes[0], nodes[1], n3} {
		n.stop()
	}
	for _, n := range []*testNode{nodes[0], nodes[1], n3} {
		if err := n.end(t); err != nil {
			t.Fatal(err)
		}
	}
}

// flip changes a bit of a file.
func flip(t *testing.T, name string, off int64) {
	t.Helper()
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var b [1]byte
	if _, err := f.ReadAt(b[:], off); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 0x10
	if _, err := f.WriteAt(b[:], off); err != nil {
		t.Fatal(err)
	}
}

func TestWithoutAMajorityNothingIsWrittenAndThatIsSaid(t *testing.T) {
	c := testCluster(t, 3)
	nodes := map[string]*testNode{}
	for _, s := range c.Spec.Nodes {
		nodes[s.ID] = startNode(t, c, s.ID)
	}
	v := dialNode(t, c, "n1")
	if got := v.ask("PUB orders one"); !strings.HasPrefix(got, "+ACK orders 0 ") {
		t.Fatal(got)
	}
	v.say("HISTORY orders") // in this session: n1 has applied what it acknowledged
	for _, want := range []string{"MSG orders - 0 ", "one", "+END orders n=1 "} {
		if got := v.line(); !strings.HasPrefix(got, want) {
			t.Fatalf("%q, wanted %q", got, want)
		}
	}
	nodes["n2"].stop()
	nodes["n3"].stop()
	for _, id := range []string{"n2", "n3"} {
		if err := nodes[id].end(t); err != nil {
			t.Fatal(err)
		}
	}
	// Once the last node has stepped down, a request never leaves it.
	eventually(t, 15*time.Second, func() bool {
		v.say("PUBN orders 3 timeout=300ms\ntwo")
		return strings.HasPrefix(v.line(), "-ERR NO_QUORUM ")
	})
	v.say("HISTORY orders read=local")
	if got := v.line(); !strings.HasPrefix(got, "MSG orders - 0 ") {
		t.Fatal(got)
	}
	if err := nodes["n1"].end(t); err != nil {
		t.Fatal(err)
	}
}
