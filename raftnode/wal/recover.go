package wal

import (
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/wiber/wiber/raftnode/vfs"
)

func (o Options) withDefaults() (Options, error) {
	if o.FS == nil {
		o.FS = vfs.OS{}
	}
	if o.Rand == nil {
		o.Rand = rand.Reader
	}
	for _, d := range []struct {
		v   *int64
		def int64
	}{{&o.SegmentBytes, 64 << 20}, {&o.FirstSegmentBytes, 4 << 20}, {&o.TailBytes, 32 << 20}, {&o.IndexCacheBytes, 8 << 20}} {
		if *d.v == 0 {
			*d.v = d.def
		}
	}
	switch {
	case o.Dir == "":
		return o, errors.New("wal: Options.Dir is empty")
	case o.TailBytes < 0 || o.IndexCacheBytes < 0:
		return o, errors.New("wal: a negative memory limit")
	}
	for _, n := range []int64{o.SegmentBytes, o.FirstSegmentBytes} {
		if n < 2*blockBytes || n > maxSegmentBytes || n%blockBytes != 0 {
			return o, fmt.Errorf("wal: a segment of %d bytes: must be a multiple of %d, from %d to %d", n, blockBytes, 2*blockBytes, maxSegmentBytes)
		}
	}
	return o, nil
}

// Open recovers the log in Options.Dir, or begins one. It reads every segment
// that has no index file, and then:
//
//  1. A sealed segment, whose end the next one's header states, must hold valid
//     frames up to that end.
//  2. In the last segment the first invalid frame ends the log, unless a valid
//     frame behind it says that it was synced.
//  3. The last segment is sealed where the log ends, and a new segment with a
//     new life begins, with the hard states of all groups.
//
// Anything else is a *CorruptError or a *VersionError, and the files stay as
// they are.
func Open(o Options) (*WAL, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	w := &WAL{
		o: o, fs: o.FS, groups: map[uint64]*Group{}, lasts: map[uint64]uint64{},
		files:  &fileCache{fs: o.FS, dir: o.Dir, open: map[string]*openFile{}},
		blocks: newBlockCache(o.IndexCacheBytes),
		tail:   tailBudget{limit: o.TailBytes},
	}
	if err := w.open(); err != nil {
		w.Close()
		return nil, err
	}
	return w, nil
}

func (w *WAL) open() error {
	if err := w.fs.MkdirAll(w.o.Dir); err != nil {
		return fmt.Errorf("wal: %w", err)
	}
	dir, err := w.list()
	if err != nil {
		return err
	}
	next := header{number: 1, firstFrame: 1}
	if len(dir.segments) > 0 {
		if next, err = w.recover(dir); err != nil {
			return err
		}
	}
	if err := w.recoveredGroups(); err != nil {
		return err
	}
	states := w.appendStates(make([]byte, frameHead, 4096))
	if err := w.begin(next, int64(len(states))); err != nil {
		return err
	}
	w.trim()
	if len(states) > frameHead {
		w.buf = states
		at, err := w.write(states, true)
		if err != nil {
			return err
		}
		if err := w.publish(nil, at, true, len(w.segments) > 1); err != nil {
			return err
		}
	} else if n := len(w.segments); n > 1 {
		w.segments[n-2].sealed = true
	}
	w.quiet = true
	w.syncs.Store(0)
	w.written.Store(0)
	w.files.preads.Store(0)
	return nil
}

// listing is what the log's folder holds.
type listing struct {
	segments []uint64
	indexed  map[uint64]bool
}

// list reads the folder's names, notes a spare that is ready, and removes what
// was being written when the process ended.
func (w *WAL) list() (listing, error) {
	l := listing{indexed: map[uint64]bool{}}
	names, err := w.fs.ReadDir(w.o.Dir)
	if err != nil {
		return l, fmt.Errorf("wal: %w", err)
	}
	top := uint64(0)
	for _, name := range names {
		if n, ok := parseName(name, segmentSuffix); ok {
			if k := len(l.segments); k > 0 && l.segments[k-1]+1 != n {
				return l, &CorruptError{w.path(segmentName(l.segments[k-1] + 1)), 0, errors.New("the segment is missing")}
			}
			l.segments = append(l.segments, n)
		} else if n, ok := parseName(name, indexSuffix); ok {
			l.indexed[n] = true
			top = max(top, n)
		} else if name == spareName {
			size, err := w.fs.Size(w.path(name))
			if err != nil {
				return l, fmt.Errorf("wal: %w", err)
			}
			if size >= 2*blockBytes && size <= maxSegmentBytes {
				w.spare.Store(size)
			}
		} else if name == spareName+vfs.TempSuffix || name == nextName {
			if err := w.fs.Remove(w.path(name)); err != nil {
				return l, fmt.Errorf("wal: %w", err)
			}
		}
	}
	if k := len(l.segments); top > 0 && (k == 0 || l.segments[k-1] <= top) {
		return l, &CorruptError{w.path(segmentName(top + 1)), 0, fmt.Errorf("the segment is missing: segment %d has an index file, so another followed it", top)}
	}
	if k := len(l.segments); w.o.Newest > 0 && (k == 0 || l.segments[k-1] < w.o.Newest) {
		first := uint64(1)
		if k > 0 {
			first = l.segments[k-1] + 1
		}
		return l, &CorruptError{w.path(segmentName(first)), 0, fmt.Errorf("the segment is missing: the log had come to segment %d", w.o.Newest)}
	}
	return l, nil
}

// recover reads the log and returns the header of the segment to come.
func (w *WAL) recover(dir listing) (header, error) {
	var prev header
	heads := make([]header, 0, len(dir.segments))
	for i, number := range dir.segments {
		h, err := w.readHeader(number)
		if err != nil {
			return h, err
		}
		if i == 0 && h.prevLife != 0 {
			return h, &CorruptError{w.path(segmentName(number - 1)), 0, errors.New("the segment is missing: the log is kept whole")}
		}
		if i > 0 && h.prevLife != prev.life {
			return h, &CorruptError{w.path(segmentName(number)), 0, fmt.Errorf("the segment does not follow segment %d, whose life is %016x", prev.number, prev.life)}
		}
		heads = append(heads, h)
		prev = h
	}
	w.recovered.Segments = len(heads)
	var scanned bool
	for i, h := range heads {
		end := int64(-1)
		if i+1 < len(heads) {
			end = heads[i+1].prevEnd
		}
		seg := &segment{number: h.number, life: h.life, end: end, sealed: end >= 0}
		w.segments = append(w.segments, seg)
		if dir.indexed[h.number] {
			if err := w.loadIndex(seg); err != nil {
				return h, err
			}
			w.recovered.Indexed++
			continue
		}
		next, err := w.scan(seg, h)
		if err != nil {
			return h, err
		}
		if i+1 < len(heads) && next != heads[i+1].firstFrame {
			return h, &CorruptError{w.path(segmentName(h.number)), seg.end, fmt.Errorf("the segment's last frame is %d, the next segment begins with frame %d", next-1, heads[i+1].firstFrame)}
		}
		seg.lasts = w.lastsLocked()
		scanned = scanned || next > h.firstFrame
		prev.firstFrame = next
	}
	last := w.segments[len(w.segments)-1]
	if w.recovered.Indexed > 0 && !scanned {
		return prev, &CorruptError{w.path(segmentName(last.number)), headerBytes, errors.New("the hard states that a segment begins with are missing")}
	}
	w.recovered.End = Pos{last.number, last.end}
	return header{number: last.number + 1, prevLife: last.life, prevEnd: last.end, firstFrame: prev.firstFrame}, nil
}

func (w *WAL) readHeader(number uint64) (header, error) {
	name := segmentName(number)
	size, err := w.fs.Size(w.path(name))
	if err != nil {
		return header{}, fmt.Errorf("wal: %w", err)
	}
	b := make([]byte, min(size, headerBytes))
	if err := w.files.read(name, b, 0); err != nil {
		return header{}, err
	}
	h, err := decodeHeader(b)
	switch {
	case errors.Is(err, errVersion):
		return h, &VersionError{w.path(name), h.version}
	case err == nil && h.number != number:
		err = fmt.Errorf("the header is that of segment %d", h.number)
	}
	if err != nil {
		return h, &CorruptError{w.path(name), 0, err}
	}
	return h, nil
}

// scan reads a segment's frames into the groups, and returns the number of the
// frame that follows.
func (w *WAL) scan(seg *segment, h header) (uint64, error) {
	name := w.path(segmentName(seg.number))
	f, err := w.fs.Open(name)
	if err != nil {
		return 0, fmt.Errorf("wal: %w", err)
	}
	defer f.Close()
	if !seg.sealed {
		// What is read from here on counts as durable. So write what may be
		// only in the page cache, and read what the device has.
		if err := f.Sync(); err != nil {
			return 0, fmt.Errorf("wal: recover: %w", err)
		}
		if err := f.Evict(); err != nil {
			return 0, fmt.Errorf("wal: recover %s: %w", name, err)
		}
	}
	size, err := f.Size()
	if err != nil {
		return 0, fmt.Errorf("wal: %w", err)
	}
	if seg.sealed && (seg.end > size || seg.end < headerBytes) {
		return 0, &CorruptError{name, min(size, max(seg.end, 0)), fmt.Errorf("the file has %d bytes, its frames end at %d", size, seg.end)}
	}
	fr := &frames{r: f, life: h.life, size: size, off: headerBytes, number: h.firstFrame}
	if seg.sealed {
		fr.size = seg.end
	}
	reason, err := w.scanFrames(seg, name, fr)
	if err != nil {
		return 0, err
	}
	if seg.sealed {
		if fr.off != seg.end {
			return 0, &CorruptError{name, fr.off, reason}
		}
		w.recovered.Synced = Pos{seg.number, seg.end}
		return fr.number, nil
	}
	return fr.number, w.endOfLog(seg, name, fr, reason)
}

// scanFrames applies the valid frames from the segment's beginning on, and
// returns why there are no more.
func (w *WAL) scanFrames(seg *segment, name string, fr *frames) (reason, err error) {
	for {
		at := fr.off
		payload, off, err := fr.next()
		var bad errFrame
		switch {
		case errors.As(err, &bad):
			return bad.reason, nil
		case err != nil:
			return nil, fmt.Errorf("wal: read %s at %d: %w", name, at, err)
		}
		w.recovered.Frames++
		err = eachRecord(payload, off, func(r record) error { return w.groupLocked(r.group).apply(seg, r) })
		if err != nil {
			return nil, &CorruptError{name, at, err}
		}
	}
}

// endOfLog decides about the first invalid frame of the last segment: it ends
// the log, unless a frame behind it says that it was durable.
func (w *WAL) endOfLog(seg *segment, name string, fr *frames, reason error) error {
	seg.end = fr.off
	count, synced, used, err := fr.behind(fr.off)
	if err != nil {
		return fmt.Errorf("wal: read %s: %w", name, err)
	}
	if synced > fr.off && !plantedTruncateOnCRC {
		return &CorruptError{name, fr.off, fmt.Errorf("%w; a later frame says that all was durable up to %d", reason, synced)}
	}
	w.recovered.TornFrames, w.recovered.TornBytes = count, used-fr.off
	w.recovered.Synced = Pos{seg.number, max(fr.synced, headerBytes)}
	return nil
}

// recoveredGroups finishes the groups after the last segment was read.
func (w *WAL) recoveredGroups() error {
	for _, id := range w.groupIDs() {
		g := w.groups[id]
		for _, sp := range g.spans {
			if sp.gone {
				return &CorruptError{w.path(segmentName(w.recovered.End.Segment)), w.recovered.End.Offset,
					fmt.Errorf("entries %d to %d of group %d, which replace those of segment %d, are missing", sp.first, sp.end()-1, id, sp.seg.number)}
			}
		}
		if g.hs.GetCommit() > g.last {
			return &CorruptError{w.path(segmentName(w.recovered.End.Segment)), w.recovered.End.Offset,
				fmt.Errorf("group %d has committed entry %d, the log ends with %d", id, g.hs.GetCommit(), g.last)}
		}
		g.durable = g.hs
		g.tailFirst = g.last + 1
		w.recovered.Groups = append(w.recovered.Groups, GroupRange{id, 1, g.last})
	}
	return nil
}

// trim gives back the zeros behind the end of the log in the segment that
// recovery sealed, so that restarts do not fill the disk. Anything but zeros
// stays. It is no loss if this fails.
func (w *WAL) trim() {
	if len(w.segments) < 2 || w.recovered.TornBytes > 0 {
		return
	}
	seg := w.segments[len(w.segments)-2]
	f, err := w.fs.Open(w.path(segmentName(seg.number)))
	if err != nil {
		return
	}
	defer f.Close()
	if size, err := f.Size(); err != nil || size <= seg.end {
		return
	}
	_ = f.Truncate(seg.end)
}
