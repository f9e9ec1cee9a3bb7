package raftnode

import (
	cryptorand "crypto/rand"
	"fmt"

	"github.com/wiber/wiber/raftnode/vfs"
	"github.com/wiber/wiber/raftnode/wal"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
)

// disk is a node's log, which survives the node.
type disk interface {
	start(Config) (*Host, error)
	group(GroupID) storage
	append([]wal.Record) error
	// read returns the data that lies at an entry's position.
	read(Entry) string
	// crash cuts the power, in the middle of an append if there is one.
	crash(under []wal.Record)
}

// sliceDisk is a simple log: an append that was under way at a crash is there
// whole or not at all.
type sliceDisk struct {
	c    *cluster
	logs map[GroupID]*memLog
}

func newSliceDisk(c *cluster) *sliceDisk {
	d := &sliceDisk{c, make(map[GroupID]*memLog)}
	for g := range c.o.groups {
		d.logs[GroupID(g)] = &memLog{conf: &raftpb.ConfState{Voters: c.voters()}}
	}
	return d
}

func (d *sliceDisk) start(c Config) (*Host, error) {
	c, err := c.withDefaults()
	if err != nil {
		return nil, err
	}
	return newHost(c, d.group)
}

func (d *sliceDisk) group(g GroupID) storage { return d.logs[g] }

func (d *sliceDisk) append(recs []wal.Record) error {
	for _, r := range recs {
		d.logs[GroupID(r.Group)].write(r)
	}
	return nil
}

func (d *sliceDisk) read(e Entry) string {
	if e.Pos != (wal.Pos{Segment: e.Term, Offset: int64(e.Index)}) {
		return "the wrong place"
	}
	return string(e.Data)
}

func (d *sliceDisk) crash(under []wal.Record) {
	if d.c.rnd.IntN(2) == 0 {
		_ = d.append(under)
	}
}

// walDisk is the real log on a disk in memory.
type walDisk struct {
	c  *cluster
	fs *vfs.Mem
	w  *wal.WAL
}

func newWALDisk(c *cluster) *walDisk { return &walDisk{c: c, fs: vfs.NewMem(c.rnd)} }

func (d *walDisk) start(c Config) (*Host, error) {
	w, err := wal.Open(wal.Options{FS: d.fs, Dir: "wal", Rand: cryptorand.Reader, SegmentBytes: 64 << 10, FirstSegmentBytes: 16 << 10, TailBytes: 32 << 10})
	if err != nil {
		return nil, err
	}
	d.w, c.Log = w, w
	return New(c)
}

func (d *walDisk) group(g GroupID) storage { return d.w.Group(uint64(g)) }

func (d *walDisk) append(recs []wal.Record) error {
	if d.w.NeedsSpare() {
		if err := d.w.PrepareSpare(); err != nil {
			return err
		}
	}
	return d.w.Append(recs)
}

func (d *walDisk) read(e Entry) string {
	p := make([]byte, len(e.Data))
	if err := d.w.ReadAt(p, e.Pos); err != nil {
		return err.Error()
	}
	return string(p)
}

func (d *walDisk) crash(under []wal.Record) {
	if under != nil {
		d.fs.PowerOffAfter(1 + d.c.rnd.IntN(3))
		_ = d.append(under)
	}
	d.fs = d.fs.Crash()
}

// memLog is a group's log: all it holds is durable.
type memLog struct {
	hard  *raftpb.HardState
	conf  *raftpb.ConfState
	ents  []*raftpb.Entry
	reads int // calls of Entries
}

func (l *memLog) write(r wal.Record) {
	if r.HardState != nil {
		l.hard = r.HardState
	}
	if len(r.Entries) == 0 {
		return
	}
	first := r.Entries[0].GetIndex()
	if first == 0 || first > l.last()+1 {
		panic(fmt.Sprintf("entry %d follows %d", first, l.last()))
	}
	if first <= l.last() {
		l.ents = l.ents[: first-1 : first-1] // readers may hold what lay above
	}
	l.ents = append(l.ents, r.Entries...)
}

func (l *memLog) last() uint64 { return uint64(len(l.ents)) }

func (l *memLog) InitialState() (*raftpb.HardState, *raftpb.ConfState, error) {
	return l.hard, l.conf, nil
}

func (l *memLog) Entries(lo, hi, maxSize uint64) ([]*raftpb.Entry, error) {
	l.reads++
	if hi > l.last()+1 {
		return nil, raft.ErrUnavailable
	}
	var out []*raftpb.Entry
	var size uint64
	for _, e := range l.ents[lo-1 : hi-1] {
		if size += uint64(len(e.GetData())) + 12; size > maxSize && len(out) > 0 {
			break
		}
		out = append(out, e)
	}
	return out, nil
}

func (l *memLog) Term(i uint64) (uint64, error) {
	switch {
	case i == 0:
		return 0, nil
	case i > l.last():
		return 0, raft.ErrUnavailable
	}
	return l.ents[i-1].GetTerm(), nil
}

func (l *memLog) LastIndex() (uint64, error)  { return l.last(), nil }
func (l *memLog) FirstIndex() (uint64, error) { return 1, nil }
func (l *memLog) Snapshot() (*raftpb.Snapshot, error) {
	return nil, raft.ErrSnapshotTemporarilyUnavailable
}

func (l *memLog) Pos(i uint64) (wal.Pos, error) {
	t, err := l.Term(i)
	return wal.Pos{Segment: t, Offset: int64(i)}, err
}
