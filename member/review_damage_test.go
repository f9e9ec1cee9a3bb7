package member

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/wiber/wiber/raftnode/transport"
	"github.com/wiber/wiber/raftnode/vfs"
	"github.com/wiber/wiber/topics"
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

// checkpointed is a node whose newest messages lie in a checkpoint and in index
// files.
func checkpointed(t *testing.T, seed uint64) *single {
	t.Helper()
	s := newSingle(t, seed)
	for range 3 {
		s.publishUntilSealed()
		for s.settle() {
		}
		for range 5 {
			s.tick()
		}
		s.idle()
		for s.settle() {
		}
	}
	return s
}

// again starts a node from what another one left on the disk.
func (s *single) again(disk *vfs.Mem, logger *slog.Logger) (*single, error) {
	s.t.Helper()
	n := &single{t: s.t, disk: disk, meta: &witness{Mem: s.meta.Snapshot()}}
	var err error
	if n.log, err = openSmallLog(disk, n.meta); err != nil {
		return nil, err
	}
	id := s.c.Identity
	id.Counter++
	n.Engine, err = NewEngine(EngineConfig{
		Identity: id, Log: n.log, Transport: outside(func(uint64, transport.Message) {}),
		Meta: n.meta, FS: disk, Dir: "state", Reference: s.c.Reference,
		Mono: func() time.Duration { return 0 }, Wake: func() {}, Logger: logger,
		ElectionTicks: 10, HeartbeatTicks: 1,
	})
	return n, err
}

// A damaged checkpoint costs nothing but the time to read the log: the log has
// everything, and what was damaged is kept for whoever wants to look at it.
func TestADamagedCheckpointIsMadeAgainFromTheLog(t *testing.T) {
	s := checkpointed(t, 5)
	topic, _ := s.Topic("a")
	stream := topics.Stream{UID: topic.UID}
	_, next := s.groups[s.group(stream)].broker.Offsets(stream)
	whole := s.disk.Kill()
	names, err := whole.ReadDir("state")
	if err != nil || len(names) < len(s.groups) {
		t.Fatal(names, err)
	}
	for _, name := range names {
		for what, harm := range map[string]func(*vfs.Mem) error{
			"a bit":    func(d *vfs.Mem) error { return d.Flip(path.Join("state", name), 30, 3) },
			"the file": func(d *vfs.Mem) error { return d.Remove(path.Join("state", name)) },
		} {
			disk := whole.Crash() // everything is synced, so this is a copy
			if err := harm(disk); err != nil {
				t.Fatal(err)
			}
			var said bytes.Buffer
			n, err := s.again(disk, slog.New(slog.NewTextHandler(&said, nil)))
			if err != nil {
				t.Fatalf("%s of %s: %v", what, name, err)
			}
			for range 40 {
				n.tick()
			}
			for i, g := range n.groups {
				want, _ := s.Chain(s.groups[i].id)
				if chain, _ := n.Chain(g.id); chain != want {
					t.Errorf("%s of %s: group %d has chain %x, want %x", what, name, i, chain, want)
				}
			}
			if _, got := n.groups[n.group(stream)].broker.Offsets(stream); got != next {
				t.Errorf("%s of %s: %d messages, want %d", what, name, got, next)
			}
			g := n.groups[n.group(stream)]
			for from := uint64(0); from < next; {
				batches, err := g.reader.Read(stream, from, 1<<20)
				if err != nil || len(batches) == 0 {
					t.Fatalf("%s of %s: offset %d of %d: %v", what, name, from, next, err)
				}
				from += uint64(len(batches))
			}
			if !strings.Contains(said.String(), name) {
				t.Errorf("%s of %s: the node says %q", what, name, said.String())
			}
			_, err = disk.Size(path.Join("state", name) + ".damaged")
			if kept := err == nil; kept != (what == "a bit") {
				t.Errorf("%s of %s: kept: %v", what, name, kept)
			}

			// The next checkpoint is whole, and the next start needs none of this.
			n.publishUntilSealed()
			for n.settle() {
			}
			for range 5 {
				n.tick()
			}
			n.idle()
			for n.settle() {
			}
			said.Reset()
			if _, err := n.again(n.disk.Kill(), slog.New(slog.NewTextHandler(&said, nil))); err != nil || said.Len() > 0 {
				t.Errorf("%s of %s: the start after that: %v, %q", what, name, err, said.String())
			}
		}
	}
}

// Where the log does not reach a checkpoint, it cannot give back what that held:
// neither if the checkpoint is damaged, nor if it is only that index files are gone.
func TestACheckpointThatTheLogDoesNotReachIsNotMadeAgain(t *testing.T) {
	for _, damaged := range []bool{true, false} {
		t.Run(fmt.Sprintf("damaged=%v", damaged), func(t *testing.T) { notMadeAgain(t, damaged) })
	}
}

func notMadeAgain(t *testing.T, damaged bool) {
	s := checkpointed(t, 6)
	disk := s.disk.Kill()
	logs, err := disk.ReadDir("log")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range logs {
		if name != "000000000001.wal" {
			if err := disk.Remove(path.Join("log", name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	names, err := disk.ReadDir("state")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if !damaged {
			continue
		}
		if err := disk.Flip(path.Join("state", name), 30, 3); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.meta.Update(map[string][]byte{segmentKey: nil}); err != nil { // nobody remembers the rest
		t.Fatal(err)
	}
	_, err = s.again(disk, slog.New(slog.DiscardHandler))
	if err == nil || exitCode(refusal(err)) != ExitNoRestart {
		t.Fatalf("err = %v", err)
	}
	for _, name := range names {
		if _, err := disk.Size(path.Join("state", name)); err != nil {
			t.Errorf("%s was touched: %v", name, err)
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
