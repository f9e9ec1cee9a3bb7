package wal

import (
	"errors"
	"fmt"
	"slices"
	"sort"
	"sync"
)

// indexFile reads a sealed segment's index file. Only the footer is in memory;
// blocks come through the block cache.
type indexFile struct {
	w    *WAL
	foot footer
}

// readIndex opens a segment's index file and checks that it belongs to it.
func (w *WAL) readIndex(seg *segment) (*indexFile, error) {
	name := indexName(seg.number)
	size, err := w.fs.Size(w.path(name))
	if err != nil {
		return nil, fmt.Errorf("wal: %w", err)
	}
	b := make([]byte, min(size, blockBytes))
	if err := w.files.read(name, b, size-int64(len(b))); err != nil {
		return nil, err
	}
	foot, version, err := decodeFooter(b, size)
	switch {
	case errors.Is(err, errVersion):
		return nil, &VersionError{w.path(name), version}
	case err == nil && (foot.number != seg.number || foot.life != seg.life || foot.end != seg.end):
		err = fmt.Errorf("it is the index of segment %d with life %016x and end %d", foot.number, foot.life, foot.end)
	}
	if err != nil {
		return nil, &CorruptError{w.path(name), max(size-blockBytes, 0), err}
	}
	return &indexFile{w: w, foot: foot}, nil
}

// loadIndex gives the groups a sealed segment's entries from its index file.
func (w *WAL) loadIndex(seg *segment) error {
	x, err := w.readIndex(seg)
	if err != nil {
		return err
	}
	seg.index = x
	terms := map[uint64][]termRun{}
	for i := range x.foot.rows[secTerms] {
		b, err := x.row(secTerms, i)
		if err != nil {
			return err
		}
		terms[le.Uint64(b)] = append(terms[le.Uint64(b)], termRun{le.Uint64(b[8:]), le.Uint64(b[16:])})
	}
	for i := range x.foot.rows[secGroups] {
		b, err := x.row(secGroups, i)
		if err != nil {
			return err
		}
		id := le.Uint64(b)
		n, at, last := le.Uint64(b[16:]), le.Uint64(b[24:]), le.Uint64(b[32:])
		if rows := x.foot.rows[secEntries]; n > rows || at > rows-n || last > 1<<62 {
			return x.corrupt(secGroups, i, errors.New("the entries of a group are not in the file"))
		}
		sp := span{first: le.Uint64(b[8:]), n: int(n), seg: seg, at: int(at)}
		g := w.groupLocked(id)
		if terms[id], err = g.load(sp, last, terms[id]); err != nil {
			return x.corrupt(secGroups, i, err)
		}
	}
	return nil
}

// load takes a span of an index file, and makes last the group's last entry as
// it was at the segment's end. It returns the terms of the spans to come.
func (g *Group) load(sp span, last uint64, terms []termRun) ([]termRun, error) {
	if sp.n > 0 {
		if sp.first == 0 || sp.first > g.last+1 || sp.end() <= sp.first {
			return nil, fmt.Errorf("entry %d of group %d does not follow entry %d", sp.first, g.id, g.last)
		}
		if err := g.cut(sp.first); err != nil {
			return nil, err
		}
		if len(terms) == 0 || terms[0].first != sp.first {
			return nil, fmt.Errorf("the term of entry %d of group %d is missing", sp.first, g.id)
		}
		for at := sp.first; len(terms) > 0 && terms[0].first >= at && terms[0].first < sp.end(); terms = terms[1:] {
			at = terms[0].first + 1
			g.addTerm(terms[0])
		}
		g.spans = append(g.spans, sp)
		g.last = sp.end() - 1
	}
	if last < g.last {
		return terms, g.cut(last + 1)
	}
	if last > g.last {
		// Entries that a later segment replaces: keep their place.
		g.addTerm(termRun{first: g.last + 1})
		g.spans = append(g.spans, span{first: g.last + 1, n: int(last - g.last), seg: sp.seg, gone: true})
		g.last = last
	}
	return terms, nil
}

// row returns a section's i-th row. It is shared and must not be changed.
func (x *indexFile) row(section int, i uint64) ([]byte, error) {
	if i >= x.foot.rows[section] {
		return nil, x.corrupt(section, i, errors.New("a row is missing"))
	}
	per := rowsPerBlock(section)
	b, err := x.block(x.foot.start(section) + i/per)
	if err != nil {
		return nil, err
	}
	n := rowBytes[section]
	return b[int(i%per)*n:][:n], nil
}

// corrupt names the place of a row that cannot be.
func (x *indexFile) corrupt(section int, i uint64, reason error) error {
	block := x.foot.start(section) + i/rowsPerBlock(section)
	return &CorruptError{x.w.path(indexName(x.foot.number)), int64(block) * blockBytes, reason}
}

// block returns a block whose checksum is right.
func (x *indexFile) block(n uint64) ([]byte, error) {
	key := blockKey{x.foot.number, n}
	if b := x.w.blocks.get(key); b != nil {
		return b, nil
	}
	name := indexName(x.foot.number)
	b := make([]byte, blockBytes)
	if err := x.w.files.read(name, b, int64(n)*blockBytes); err != nil {
		return nil, err
	}
	if !validBlock(b, x.foot.life, n) {
		return nil, &CorruptError{x.w.path(name), int64(n) * blockBytes, errors.New("the block's checksum is wrong")}
	}
	x.w.blocks.put(key, b)
	return b, nil
}

// refs returns the places of n entries from row at on.
func (x *indexFile) refs(at, n int) ([]ref, error) {
	refs := make([]ref, 0, n)
	for i := at; i < at+n; i++ {
		b, err := x.row(secEntries, uint64(i))
		if err != nil {
			return nil, err
		}
		r := ref{le.Uint32(b), le.Uint32(b[4:])}
		if int64(r.off) < headerBytes || r.end() > x.foot.end {
			return nil, x.corrupt(secEntries, uint64(i), errors.New("an entry lies outside its segment"))
		}
		refs = append(refs, r)
	}
	return refs, nil
}

// stream returns what the file holds of a stream. Where it holds nothing, the
// filter mostly says so with one block.
func (x *indexFile) stream(s Stream) (streamRange, bool, error) {
	var none streamRange
	n := x.foot.rows[secStreams]
	if n == 0 {
		return none, false, nil
	}
	var ferr error
	maybe := filterBits(s, x.foot.rows[secFilter], func(line uint64, bit uint) bool {
		b, err := x.row(secFilter, line)
		ferr = err
		return err == nil && b[bit/8]&(1<<(bit%8)) != 0
	})
	if !maybe || ferr != nil {
		return none, false, ferr
	}
	i, row, err := x.search(secStreams, 0, n, func(b []byte) bool { return compareStreams(decodeStream(b).Stream, s) >= 0 })
	if err != nil || row == nil {
		return none, false, err
	}
	r := decodeStream(row)
	if r.Stream != s {
		return none, false, nil
	}
	if r.n == 0 || r.at+r.n < r.at || r.at+r.n > x.foot.rows[secBatches] || r.first >= r.next {
		return none, false, x.corrupt(secStreams, i, errors.New("a stream has no batches"))
	}
	return r, true, nil
}

// search returns the first row of [lo, hi) for which fn is true, nil if none.
func (x *indexFile) search(section int, lo, hi uint64, fn func([]byte) bool) (uint64, []byte, error) {
	var found []byte
	var ferr error
	i := sort.Search(int(hi-lo), func(k int) bool {
		if ferr != nil {
			return true
		}
		b, err := x.row(section, lo+uint64(k))
		if err != nil {
			ferr = err
			return true
		}
		if !fn(b) {
			return false
		}
		found = b
		return true
	})
	if ferr != nil || i == int(hi-lo) {
		return 0, nil, ferr
	}
	return lo + uint64(i), found, nil
}

// batch returns a stream's batch at a row.
func (x *indexFile) batch(s streamRange, i uint64) (Located, error) {
	b, err := x.row(secBatches, i)
	if err != nil {
		return Located{}, err
	}
	r := decodeBatch(b, s.Stream)
	if r.Offset < headerBytes || r.Offset+int64(r.Len) > x.foot.end {
		return Located{}, x.corrupt(secBatches, i, errors.New("a batch lies outside its segment"))
	}
	return Located{r, Pos{x.foot.number, r.Offset}}, nil
}

// indexes returns the index files, the newest first.
func (w *WAL) indexes() []*indexFile {
	w.mu.RLock()
	defer w.mu.RUnlock()
	list := make([]*indexFile, 0, len(w.segments))
	for _, seg := range slices.Backward(w.segments) {
		if seg.index != nil {
			list = append(list, seg.index)
		}
	}
	return list
}

// Find returns the batch of an indexed segment that holds a stream's offset.
func (w *WAL) Find(s Stream, offset uint64) (StreamRecord, Pos, bool, error) {
	found, err := w.Scan(s, offset, 1)
	if err != nil || len(found) == 0 || found[0].Base > offset {
		return StreamRecord{}, Pos{}, false, err
	}
	return found[0].StreamRecord, found[0].Pos, true, nil
}

// part is what one index file holds of a stream.
type part struct {
	x *indexFile
	s streamRange
}

// parts returns what the index files hold of a stream, the newest first, up to
// the first for which done is true. A stream's offsets and stamps grow from
// segment to segment, so what lies behind it is not needed.
func (w *WAL) parts(s Stream, done func(streamRange) bool) ([]part, error) {
	var list []part
	for _, x := range w.indexes() {
		r, ok, err := x.stream(s)
		if err != nil {
			return nil, err
		}
		if !ok {
			continue
		}
		list = append(list, part{x, r})
		if done(r) {
			break
		}
	}
	return list, nil
}

// FindTime returns a stream's first batch in the indexed segments with TS >= ts.
func (w *WAL) FindTime(s Stream, ts uint64) (StreamRecord, Pos, bool, error) {
	list, err := w.parts(s, func(r streamRange) bool { return r.firstTS < ts })
	if err != nil {
		return StreamRecord{}, Pos{}, false, err
	}
	for _, p := range slices.Backward(list) {
		i, row, err := p.x.search(secBatches, p.s.at, p.s.at+p.s.n, func(b []byte) bool { return decodeBatch(b, s).TS >= ts })
		if err != nil {
			return StreamRecord{}, Pos{}, false, err
		}
		if row != nil {
			l, err := p.x.batch(p.s, i)
			return l.StreamRecord, l.Pos, err == nil, err
		}
	}
	return StreamRecord{}, Pos{}, false, nil
}

// Scan returns up to max batches of a stream in the indexed segments, in order,
// beginning with the one that holds from, or else the first above it.
func (w *WAL) Scan(s Stream, from uint64, max int) ([]Located, error) {
	list, err := w.parts(s, func(r streamRange) bool { return r.first <= from })
	if err != nil {
		return nil, err
	}
	var out []Located
	for _, p := range slices.Backward(list) {
		end := p.s.at + p.s.n
		i, row, err := p.x.search(secBatches, p.s.at, end, func(b []byte) bool {
			r := decodeBatch(b, s)
			return r.Base+uint64(r.Count) > from
		})
		if err != nil {
			return nil, err
		}
		for ; row != nil && i < end && len(out) < max; i++ {
			l, err := p.x.batch(p.s, i)
			if err != nil {
				return nil, err
			}
			out = append(out, l)
		}
		if len(out) >= max {
			break
		}
	}
	return out, nil
}

// ScanBack returns up to max batches of a stream in the indexed segments, the
// newest first, beginning with the one that holds until-1, or else the first
// below it.
func (w *WAL) ScanBack(s Stream, until uint64, max int) ([]Located, error) {
	left := uint64(max)
	list, err := w.parts(s, func(r streamRange) bool {
		if r.next <= until {
			left -= min(left, r.n)
		}
		return left == 0
	})
	if err != nil {
		return nil, err
	}
	var out []Located
	for _, p := range list {
		end, row, err := p.x.search(secBatches, p.s.at, p.s.at+p.s.n, func(b []byte) bool { return le.Uint64(b) >= until })
		if err != nil {
			return nil, err
		}
		if row == nil {
			end = p.s.at + p.s.n
		}
		for i := end; i > p.s.at && len(out) < max; i-- {
			l, err := p.x.batch(p.s, i-1)
			if err != nil {
				return nil, err
			}
			out = append(out, l)
		}
	}
	return out, nil
}

// blockCache keeps blocks of index files, and drops those not used lately.
type blockCache struct {
	max int

	mu   sync.Mutex
	m    map[blockKey]*cachedBlock
	ring []*cachedBlock
	hand int
}

type blockKey struct{ segment, block uint64 }

type cachedBlock struct {
	key  blockKey
	b    []byte
	used bool
}

func newBlockCache(bytes int64) *blockCache {
	return &blockCache{max: int(max(bytes/blockBytes, 1)), m: map[blockKey]*cachedBlock{}}
}

func (c *blockCache) get(key blockKey) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	cb := c.m[key]
	if cb == nil {
		return nil
	}
	cb.used = true
	return cb.b
}

func (c *blockCache) put(key blockKey, b []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.m[key] != nil {
		return
	}
	cb := &cachedBlock{key: key, b: b}
	c.m[key] = cb
	if len(c.ring) < c.max {
		c.ring = append(c.ring, cb)
		return
	}
	for c.ring[c.hand].used { // a second chance
		c.ring[c.hand].used = false
		c.hand = (c.hand + 1) % len(c.ring)
	}
	delete(c.m, c.ring[c.hand].key)
	c.ring[c.hand] = cb
	c.hand = (c.hand + 1) % len(c.ring)
}
