package wal

import (
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/wiber/wiber/raftnode/vfs"
	"go.etcd.io/raft/v3/raftpb"
)

// WAL is the log. Append and Idle are for one goroutine, the append loop; all
// other methods may be called by any.
type WAL struct {
	o         Options
	fs        vfs.FS
	recovered Recovery
	files     *fileCache
	blocks    *blockCache

	// The append loop's own.
	file   vfs.File // the active segment's
	life   uint64
	room   int64  // the active segment's size
	off    int64  // where the next frame goes
	synced int64  // up to here an fdatasync covers the active segment
	number uint64 // of the next frame
	buf    []byte
	lasts  map[uint64]uint64 // scratch of check
	quiet  bool              // the disk says that everything is durable
	err    error             // the first error; the log is dead

	mu       sync.RWMutex // guards what follows; not held across a sync
	groups   map[uint64]*Group
	segments []*segment // by number; the last is the active one
	tail     tailBudget

	spareMu sync.Mutex   // held while a spare is made
	spare   atomic.Int64 // the size of the prepared file, 0 if there is none
	syncs   atomic.Uint64
	written atomic.Uint64
	bytes   atomic.Uint64
}

// segment is one file of the log.
type segment struct {
	number, life uint64
	end          int64      // of the valid frames
	sealed       bool       // the next segment says where this one ends
	index        *indexFile // nil: its entries are in memory
	// lasts are the groups' last entries when the segment was sealed, for
	// its index file: entries that a later segment replaced are counted.
	lasts []groupLast
}

type groupLast struct{ group, last uint64 }

// Append writes records of any groups as one frame, with one fdatasync if
// entries, a term or a vote changed. After an error every further call returns
// that error.
func (w *WAL) Append(recs []Record) error {
	if w.err != nil {
		return w.err
	}
	w.err = w.append(recs)
	return w.err
}

func (w *WAL) append(recs []Record) error {
	sync, err := w.check(recs)
	if err != nil {
		return err
	}
	w.buf = w.encode(w.buf[:0], recs)
	if len(w.buf) == frameHead {
		return nil
	}
	if len(w.buf) > MaxFrameBytes {
		return fmt.Errorf("%w: %d bytes", ErrTooLarge, len(w.buf))
	}
	rolled := false
	if w.off+int64(len(w.buf)) > w.room {
		states := w.appendStates(make([]byte, frameHead, 4096))
		if err := w.roll(int64(len(states) + len(w.buf))); err != nil {
			return err
		}
		w.buf = append(states, w.buf[frameHead:]...)
		rolled = true
	}
	at, err := w.write(w.buf, sync || rolled)
	if err != nil {
		return err
	}
	w.quiet = false
	return w.publish(recs, at, sync || rolled, rolled)
}

// check validates records against the log, and says whether they need a sync.
func (w *WAL) check(recs []Record) (sync bool, err error) {
	clear(w.lasts)
	for _, r := range recs {
		g := w.Group(r.Group) // only this goroutine changes a group
		last, ok := w.lasts[r.Group]
		if !ok {
			last = g.last
		}
		for i, e := range r.Entries {
			index := e.GetIndex()
			switch {
			case i > 0 && index != r.Entries[i-1].GetIndex()+1, i == 0 && (index == 0 || index > last+1):
				return false, fmt.Errorf("wal: append to group %d: entry %d would leave a gap", r.Group, index)
			case e.GetType() < 0 || e.GetType() > 3:
				return false, fmt.Errorf("wal: append to group %d: entry %d has type %d", r.Group, index, e.GetType())
			case len(e.GetData()) > MaxFrameBytes:
				return false, fmt.Errorf("%w: entry %d of group %d has %d bytes", ErrTooLarge, index, r.Group, len(e.GetData()))
			}
		}
		if n := len(r.Entries); n > 0 {
			sync = true
			if end := r.Entries[n-1].GetIndex(); !r.Carried || end > last {
				last = end
			}
			w.lasts[r.Group] = last
		}
		if hs := r.HardState; hs != nil {
			if hs.GetTerm() < g.hs.GetTerm() {
				return false, fmt.Errorf("wal: append to group %d: term %d after term %d", r.Group, hs.GetTerm(), g.hs.GetTerm())
			}
			if hs.GetCommit() > last {
				return false, fmt.Errorf("wal: append to group %d: commit %d is above its last entry %d", r.Group, hs.GetCommit(), last)
			}
			sync = sync || hs.GetTerm() != g.hs.GetTerm() || hs.GetVote() != g.hs.GetVote()
		}
	}
	return sync, nil
}

// encode appends a frame's empty head and the records to b.
func (w *WAL) encode(b []byte, recs []Record) []byte {
	b = append(b, make([]byte, frameHead)...)
	for _, r := range recs {
		if len(r.Entries) > 0 {
			kind := byte(kindEntries)
			if r.Carried {
				kind = kindCarried
			}
			b = appendEntries(b, kind, r.Group, r.Entries)
		}
		if hs := r.HardState; hs != nil && (hs.GetTerm() != 0 || hs.GetVote() != 0 || hs.GetCommit() != 0) {
			b = appendState(b, r.Group, hs)
		}
	}
	return b
}

// appendStates encodes the hard states of all groups: a new segment begins
// with them.
func (w *WAL) appendStates(b []byte) []byte {
	w.mu.RLock()
	defer w.mu.RUnlock()
	for _, id := range w.groupIDs() {
		if hs := w.groups[id].hs; hs != nil {
			b = appendState(b, id, hs)
		}
	}
	return b
}

// write puts one frame, whose head is still empty, at the end of the active
// segment, and returns the offset of its payload.
func (w *WAL) write(b []byte, sync bool) (payload int64, err error) {
	at := w.off
	frame{number: w.number, synced: w.synced}.seal(b, w.life, at)
	w.off += int64(len(b))
	w.number++
	if _, err := w.file.WriteAt(w.pad(b, at), at); err != nil {
		return 0, fmt.Errorf("wal: append: %w", err)
	}
	w.written.Add(1)
	w.bytes.Add(uint64(len(b)))
	if sync {
		if err := w.sync(); err != nil {
			return 0, err
		}
	}
	return at + frameHead, nil
}

// pad fills the block in which a frame ends with zeros if the frame begins
// that block: what lies there now is zero or nothing anybody needs, and a
// block that is written whole does not have to be read first.
func (w *WAL) pad(b []byte, at int64) []byte {
	end := at + int64(len(b))
	full := min((end+blockBytes-1)/blockBytes*blockBytes, w.room)
	if (end-1)/blockBytes*blockBytes < at || full == end {
		return b
	}
	n := len(b)
	w.buf = append(b, make([]byte, full-end)...)
	b, w.buf = w.buf, w.buf[:n]
	return b
}

func (w *WAL) sync() error {
	w.syncs.Add(1)
	if err := w.file.Sync(); err != nil {
		return fmt.Errorf("wal: append: %w", err)
	}
	w.synced = w.off
	return nil
}

// publish makes a written frame visible, through the same code as recovery.
func (w *WAL) publish(recs []Record, at int64, synced, rolled bool) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	seg := w.segments[len(w.segments)-1]
	seg.end = w.off
	err := eachRecord(w.buf[frameHead:], at, func(r record) error {
		g := w.groupLocked(r.group)
		if err := g.apply(seg, r); err != nil || r.kind == kindState {
			return err
		}
		for len(recs[0].Entries) == 0 {
			recs = recs[1:]
		}
		w.tail.add(g, recs[0].Entries)
		recs = recs[1:]
		return nil
	})
	if err != nil {
		return fmt.Errorf("wal: append: %w", err)
	}
	if synced {
		for _, g := range w.groups {
			g.durable = g.hs
		}
	}
	if rolled {
		w.segments[len(w.segments)-2].sealed = true
	}
	if cap(w.buf) > 4<<20 {
		w.buf = nil
	}
	return nil
}

// Idle makes everything appended provably durable: what an unsynced frame holds
// is synced, and an empty frame says so. Call it when nothing was appended for
// 100 ms. It does nothing if the disk says so already.
func (w *WAL) Idle() error {
	if w.err != nil || w.quiet {
		return w.err
	}
	w.err = w.idle()
	return w.err
}

func (w *WAL) idle() error {
	if w.synced < w.off {
		if err := w.sync(); err != nil {
			return err
		}
	}
	w.buf = append(w.buf[:0], make([]byte, frameHead)...)
	rolled := w.off+frameHead > w.room
	if rolled {
		states := w.appendStates(make([]byte, frameHead, 4096))
		if err := w.roll(int64(len(states))); err != nil {
			return err
		}
		w.buf = states
	}
	at, err := w.write(w.buf, true)
	if err != nil {
		return err
	}
	w.quiet = true
	return w.publish(nil, at, true, rolled)
}

// roll seals the active segment and begins the next, in which a frame of need
// bytes fits. The order matters: the old segment is synced before the new
// header says where it ends, the new header is on the disk before the file gets
// its name, and the name before somebody else is told of it (Begun).
func (w *WAL) roll(need int64) error {
	if w.synced < w.off {
		if err := w.sync(); err != nil {
			return err
		}
	}
	prev := w.segments[len(w.segments)-1]
	return w.begin(header{number: prev.number + 1, prevLife: prev.life, prevEnd: w.off, firstFrame: w.number}, need)
}

// begin makes the segment that h describes but for its life.
func (w *WAL) begin(h header, need int64) error {
	for h.life == 0 || h.life == h.prevLife {
		var b [8]byte
		if _, err := io.ReadFull(w.o.Rand, b[:]); err != nil {
			return fmt.Errorf("wal: draw a life: %w", err)
		}
		h.life = binary.LittleEndian.Uint64(b[:])
	}
	f, temp, size, err := w.empty(headerBytes + need)
	if err != nil {
		return fmt.Errorf("wal: make segment %d: %w", h.number, err)
	}
	name := w.path(segmentName(h.number))
	if _, err = f.WriteAt(h.encode(), 0); err == nil {
		w.syncs.Add(1)
		err = f.Sync()
	}
	if err == nil {
		err = w.fs.Rename(temp, name)
	}
	if err == nil {
		err = w.fs.SyncDir(w.o.Dir)
	}
	if err == nil && w.o.Begun != nil {
		err = w.o.Begun(h.number)
	}
	if err != nil {
		f.Close()
		return fmt.Errorf("wal: make segment %d: %w", h.number, err)
	}
	if temp == w.path(spareName) {
		w.spare.Store(0) // only now: PrepareSpare may take the name again
	}
	w.files.pin(segmentName(h.number), f)
	w.file, w.life, w.room = f, h.life, size
	w.off, w.synced, w.number = headerBytes, headerBytes, h.firstFrame
	w.mu.Lock()
	defer w.mu.Unlock()
	if n := len(w.segments); n > 0 && w.segments[n-1].lasts == nil {
		w.segments[n-1].lasts = w.lastsLocked()
	}
	w.segments = append(w.segments, &segment{number: h.number, life: h.life, end: headerBytes})
	return nil
}

// empty returns a zeroed file of at least need bytes: the spare if it is ready
// and large enough, else a small one that is made now.
func (w *WAL) empty(need int64) (f vfs.File, name string, size int64, err error) {
	if size = w.spare.Load(); size >= need {
		name = w.path(spareName)
		f, err = w.fs.Open(name)
		return f, name, size, err
	}
	name = w.path(nextName)
	size = max(w.o.FirstSegmentBytes, (need+blockBytes-1)/blockBytes*blockBytes)
	f, err = w.zeroed(name, size)
	return f, name, size, err
}

// zeroed makes a file of zeros under a temporary name.
func (w *WAL) zeroed(name string, size int64) (vfs.File, error) {
	_ = w.fs.Remove(name) // left over from a crash; Create says so if it stays
	f, err := w.fs.Create(name)
	if err != nil {
		return nil, err
	}
	if err := f.Zero(size); err != nil {
		f.Close()
		_ = w.fs.Remove(name) // on a full disk, what it holds is needed
		return nil, err
	}
	return f, nil
}

// NeedsSpare says that PrepareSpare should be called, from another goroutine:
// there is no spare, and the active segment holds more than a quarter of
// FirstSegmentBytes. A node that does nothing prepares nothing.
func (w *WAL) NeedsSpare() bool {
	if w.spare.Load() > 0 {
		return false
	}
	w.mu.RLock()
	defer w.mu.RUnlock()
	return w.segments[len(w.segments)-1].end-headerBytes > w.o.FirstSegmentBytes/4
}

// PrepareSpare makes the next segment's file: allocated, zero-written, synced.
// It returns at once if there is one.
func (w *WAL) PrepareSpare() error {
	w.spareMu.Lock()
	defer w.spareMu.Unlock()
	if w.spare.Load() > 0 {
		return nil
	}
	temp := w.path(spareName + vfs.TempSuffix)
	f, err := w.zeroed(temp, w.o.SegmentBytes)
	if err == nil {
		err = f.Close()
	}
	if err == nil {
		err = w.fs.Rename(temp, w.path(spareName))
	}
	if err == nil {
		err = w.fs.SyncDir(w.o.Dir)
	}
	if err != nil {
		return fmt.Errorf("wal: prepare a segment: %w", err)
	}
	w.spare.Store(w.o.SegmentBytes)
	return nil
}

// Group returns the group with this id, and makes an empty one if there is none.
func (w *WAL) Group(id uint64) *Group {
	w.mu.RLock()
	g := w.groups[id]
	w.mu.RUnlock()
	if g != nil {
		return g
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.groupLocked(id)
}

func (w *WAL) groupLocked(id uint64) *Group {
	g := w.groups[id]
	if g == nil {
		g = &Group{w: w, id: id, conf: &raftpb.ConfState{}, tailFirst: 1}
		w.groups[id] = g
	}
	return g
}

// lastsLocked returns every group's last entry.
func (w *WAL) lastsLocked() []groupLast {
	lasts := []groupLast{}
	for _, id := range w.groupIDs() {
		lasts = append(lasts, groupLast{id, w.groups[id].last})
	}
	return lasts
}

// groupIDs returns the groups in order; mu is held.
func (w *WAL) groupIDs() []uint64 {
	ids := make([]uint64, 0, len(w.groups))
	for id := range w.groups {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// ReadAt reads len(p) bytes from one segment. It may run beside Append. What
// it returns carries no checksum of the log's: the reader checks its batch.
func (w *WAL) ReadAt(p []byte, pos Pos) error {
	w.mu.RLock()
	seg := w.segmentLocked(pos.Segment)
	var end int64
	if seg != nil {
		end = seg.end
	}
	w.mu.RUnlock()
	switch {
	case seg == nil:
		return fmt.Errorf("wal: read: there is no segment %d", pos.Segment)
	case pos.Offset < headerBytes || pos.Offset+int64(len(p)) > end:
		return fmt.Errorf("wal: read: segment %d ends at %d, asked for %d bytes at %d", pos.Segment, end, len(p), pos.Offset)
	}
	return w.files.read(segmentName(pos.Segment), p, pos.Offset)
}

func (w *WAL) segmentLocked(number uint64) *segment {
	i, ok := slices.BinarySearchFunc(w.segments, number, func(s *segment, n uint64) int {
		switch {
		case s.number < n:
			return -1
		case s.number > n:
			return 1
		}
		return 0
	})
	if !ok {
		return nil
	}
	return w.segments[i]
}

// Recovered tells what Open found.
func (w *WAL) Recovered() Recovery { return w.recovered }

// Syncs counts the fdatasyncs of Append and Idle since Open.
func (w *WAL) Syncs() uint64 { return w.syncs.Load() }

// Frames counts the frames written since Open.
func (w *WAL) Frames() uint64 { return w.written.Load() }

// Bytes counts the bytes of those frames.
func (w *WAL) Bytes() uint64 { return w.bytes.Load() }

// Preads counts the reads of the disk since Open, by any caller.
func (w *WAL) Preads() uint64 { return w.files.preads.Load() }

// Close closes the files. It syncs nothing; call Idle before it. No other call
// may run or follow.
func (w *WAL) Close() error { return w.files.close() }
