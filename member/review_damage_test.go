package member

import (
	"context"
	"net"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/wiber/wiber/topics/server"
	"github.com/wiber/wiber/topics/store"
)

// A folder whose log was erased is an erased folder: with an empty log in its
// place the node would vote as if it had never voted.
func TestANodeWhoseLogIsGoneDoesNotVote(t *testing.T) {
	c := testCluster(t, 1)
	n := startNode(t, c, "n1")
	if got := dialNode(t, c, "n1").ask("PUB orders one"); !strings.HasPrefix(got, "+ACK orders 0 ") {
		t.Fatal(got)
	}
	if err := n.end(t); err != nil {
		t.Fatal(err)
	}
	log := filepath.Join(c.Spec.DataRoot, "n1", "log")
	if err := os.Rename(log, log+".aside"); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the first refusal leaves nothing that helps the second start
		err := startNode(t, c, "n1").ends(t)
		if exitCode(err) != ExitNoRestart || !strings.Contains(err.Error(), log) {
			t.Fatalf("err = %v", err)
		}
	}
	if err := os.RemoveAll(log); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(log+".aside", log); err != nil {
		t.Fatal(err)
	}
	n = startNode(t, c, "n1")
	if got := dialNode(t, c, "n1").ask("PUB orders two"); !strings.HasPrefix(got, "+ACK orders 1 ") {
		t.Fatal(got)
	}
	if err := n.end(t); err != nil {
		t.Fatal(err)
	}
}

// A log without its newest segments looks whole, and lacks what the node
// acknowledged and voted. The manifest remembers that there was more.
func TestALogWhoseNewestSegmentsAreGoneIsRefused(t *testing.T) {
	s := newSingle(t, 4)
	for range 3 {
		s.publishUntilSealed() // nothing is settled: no index file shows that another segment followed
	}
	disk := s.disk.Kill()
	names, err := disk.ReadDir("log")
	if err != nil || len(names) < 4 {
		t.Fatal(names, err)
	}
	newest := names[len(names)-1]
	if err := disk.Remove(path.Join("log", newest)); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the refusal leaves nothing that helps the second start
		_, err := openSmallLog(disk, s.meta)
		if err == nil {
			t.Fatal("a log without its end was opened")
		}
		if code := exitCode(refusal(err)); code != ExitNoRestart || !strings.Contains(err.Error(), newest) {
			t.Fatalf("exit code %d, %v", code, err)
		}
	}
	if _, err := openSmallLog(disk, store.NewMem()); err != nil {
		t.Errorf("the log alone does not look whole, so this test shows nothing: %v", err)
	}
}

// A checkpoint that is damaged is no matter for another try.
func TestANodeWithADamagedCheckpointIsNotStartedAgain(t *testing.T) {
	c := testCluster(t, 1)
	var files []string
	for range 2 { // the second start seals the first one's segment
		n := startNode(t, c, "n1")
		if got := dialNode(t, c, "n1").ask("PUB orders one"); !strings.HasPrefix(got, "+ACK orders ") {
			t.Fatal(got)
		}
		if files == nil {
			files = []string{}
		} else {
			eventually(t, 10*time.Second, func() bool {
				files, _ = filepath.Glob(filepath.Join(c.Spec.DataRoot, "n1", "state", "*.state"))
				return len(files) > c.Spec.Shards
			})
		}
		if err := n.end(t); err != nil {
			t.Fatal(err)
		}
	}
	for what, harm := range map[string]func(){
		"a bit":    func() { flip(t, files[0], 30) },
		"the file": func() { _ = os.Remove(files[0]) },
	} {
		whole, err := os.ReadFile(files[0])
		if err != nil {
			t.Fatal(err)
		}
		harm()
		err = startNode(t, c, "n1").ends(t)
		if exitCode(err) != ExitNoRestart || !strings.Contains(err.Error(), filepath.Base(files[0])) {
			t.Errorf("%s: err = %v", what, err)
		}
		if err := os.WriteFile(files[0], whole, 0o640); err != nil {
			t.Fatal(err)
		}
	}
}

// crowded is a listener on a machine with too many open files, for a moment.
type crowded struct {
	net.Listener
	errs int
}

func (l *crowded) Accept() (net.Conn, error) {
	if l.errs > 0 {
		l.errs--
		return nil, syscall.EMFILE
	}
	return l.Listener.Accept()
}

func TestTooManyOpenFilesDoNotEndANode(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	said := 0
	p := &peerPort{ln: &crowded{ln, 2}, warn: func(string, error) { said++ }, reply: func(Ask) Answer { return Answer{Node: "n1"} }}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- p.serve(ctx) }()
	a, err := askPeer(ctx, &net.Dialer{}, ln.Addr().String(), Ask{})
	if err != nil || a.Node != "n1" {
		t.Errorf("answer %v, %v", a, err)
	}
	cancel()
	if err := <-served; err != nil || said != 2 {
		t.Errorf("ended with %v, said %d times what is wrong", err, said)
	}
}

// Reads that were given up while nobody leads do not pile up.
func TestReadsThatWereGivenUpAreForgotten(t *testing.T) {
	e := newLonely(t, 1, quiet)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for _, level := range []server.Level{server.Linearizable, server.Session} {
		if _, err := e.Barrier(ctx, level, []server.Floor{{Group: 1, Index: 9}}); err == nil {
			t.Fatal("a read without a majority was answered")
		}
	}
	e.Tick()
	if g := e.groups[1]; len(g.reads.waiting) != 0 || len(g.waits) != 0 {
		t.Errorf("%d and %d reads wait for nobody", len(g.reads.waiting), len(g.waits))
	}
}
