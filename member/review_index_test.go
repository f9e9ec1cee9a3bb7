package member

import (
	"log/slog"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/wiber/wiber/raftnode/transport"
	"github.com/wiber/wiber/topics"
)

// Index files are made from the log and can be made again: a node that lost some,
// or whose owner removed a damaged one, reads the log from its beginning instead
// of serving what the checkpoint has left.
func TestIndexFilesThatAreGoneAreMadeAgain(t *testing.T) {
	s := newSingle(t, 3)
	checkpoint := func() {
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
	for range 4 {
		checkpoint()
	}
	topic, _ := s.Topic("a")
	stream := topics.Stream{UID: topic.UID}
	_, next := s.groups[s.group(stream)].broker.Offsets(stream)
	chain, applied := s.Chain(s.groups[s.group(stream)].id)

	disk := s.disk.Kill()
	names, err := disk.ReadDir("log")
	if err != nil {
		t.Fatal(err)
	}
	gone := 0
	for _, name := range names {
		if strings.HasSuffix(name, ".idx") {
			gone++
			if err := disk.Remove(path.Join("log", name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if gone == 0 {
		t.Fatal("there are no index files")
	}
	meta := &witness{Mem: s.meta.Snapshot()}
	log, err := openSmallLog(disk, meta)
	if err != nil {
		t.Fatal(err)
	}
	id := s.c.Identity
	id.Counter++
	again := &single{t: t, disk: disk, log: log, meta: meta}
	again.Engine, err = NewEngine(EngineConfig{
		Identity: id, Log: log, Transport: outside(func(uint64, transport.Message) {}),
		Meta: again.meta, FS: disk, Dir: "state", Reference: s.c.Reference,
		Mono: func() time.Duration { return 0 }, Wake: func() {}, Logger: slog.New(slog.DiscardHandler),
		ElectionTicks: 10, HeartbeatTicks: 1,
	})
	if err != nil {
		t.Fatal(err)
	}
	for range 40 {
		again.tick()
	}
	for again.settle() {
	}
	g := again.groups[again.group(stream)]
	for from := uint64(0); from < next; {
		batches, err := g.reader.Read(stream, from, 1<<20)
		if err != nil || len(batches) == 0 {
			t.Fatalf("offset %d of %d: %v", from, next, err)
		}
		from = batches[len(batches)-1].Next()
	}
	if c, ok := g.broker.ChainAt(applied); ok && c != chain {
		t.Errorf("the chain at %d is %s, and was %s", applied, c, chain)
	}
}

// group is the place of a stream's shard in groups.
func (s *single) group(stream topics.Stream) int { return int(s.cat.Shard(stream)) + 1 }
