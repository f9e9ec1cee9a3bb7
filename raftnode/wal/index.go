package wal

import (
	"cmp"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"

	"github.com/wiber/wiber/raftnode/vfs"
)

// An index file is made of blocks. Each ends with a checksum over the rest of
// it, the segment's life and the block's number; sections of fixed-size rows
// begin at a block's start, and no row crosses a block. The last block is the
// footer and says where the sections are. docs/format/wal.md draws it.
const (
	indexMagic   = "WIBERIDX"
	indexVersion = 1
	blockData    = blockBytes - 4

	groupRow  = 40 // group, first, n, at, last
	termRow   = 24 // group, first, term
	entryRow  = 8  // off, size and type
	filterRow = 64 // one line of the filter
	streamRow = 64 // uid, partition, n, at, first offset, next offset, first and last stamp
	batchRow  = 48 // base, ts, term, index, count, len, offset

	sections = 6
)

var rowBytes = [sections]int{groupRow, termRow, entryRow, filterRow, streamRow, batchRow}

// Sections in the order in which they lie.
const (
	secGroups = iota
	secTerms
	secEntries
	secFilter
	secStreams
	secBatches
)

// footer is an index file's last block.
type footer struct {
	life, number uint64
	end          int64 // of the segment
	rows         [sections]uint64
}

func rowsPerBlock(section int) uint64 { return uint64(blockData / rowBytes[section]) }

// start returns a section's first block; that of the section behind the last is
// the footer's.
func (f footer) start(section int) uint64 {
	block := uint64(0)
	for s := range section {
		block += (f.rows[s] + rowsPerBlock(s) - 1) / rowsPerBlock(s)
	}
	return block
}

func (f footer) encode() []byte {
	b := make([]byte, blockBytes)
	copy(b, indexMagic)
	le.PutUint32(b[8:], indexVersion)
	le.PutUint64(b[16:], f.life)
	le.PutUint64(b[24:], f.number)
	le.PutUint64(b[32:], uint64(f.end))
	for s, n := range f.rows {
		le.PutUint64(b[40+8*s:], n)
	}
	sealBlock(b, 0, 0) // its own number and life are inside
	return b
}

// decodeFooter reads the last block of a file of size bytes.
func decodeFooter(b []byte, size int64) (footer, uint32, error) {
	var f footer
	if len(b) != blockBytes || size%blockBytes != 0 {
		return f, 0, errors.New("the file is cut short")
	}
	if string(b[:8]) != indexMagic {
		return f, 0, errors.New("no index footer")
	}
	version := le.Uint32(b[8:])
	if version != indexVersion {
		return f, version, errVersion
	}
	if !validBlock(b, 0, 0) {
		return f, version, errors.New("the footer's checksum is wrong")
	}
	f.life, f.number, f.end = le.Uint64(b[16:]), le.Uint64(b[24:]), int64(le.Uint64(b[32:]))
	for s := range f.rows {
		if f.rows[s] = le.Uint64(b[40+8*s:]); f.rows[s] > uint64(size) {
			return f, version, errors.New("the footer counts more rows than the file holds")
		}
	}
	if f.start(sections) != uint64(size)/blockBytes-1 {
		return f, version, errors.New("the footer's sections do not fill the file")
	}
	if f.rows[secStreams] > 0 && f.rows[secFilter] == 0 {
		return f, version, errors.New("the footer has no filter")
	}
	if f.end < headerBytes || f.end > maxSegmentBytes {
		return f, version, errors.New("the footer states an impossible end")
	}
	return f, version, nil
}

func blockCRC(b []byte, life, block uint64) uint32 {
	var seed [16]byte
	le.PutUint64(seed[:], life)
	le.PutUint64(seed[8:], block)
	return crc32.Update(crc32.Update(0, castagnoli, seed[:]), castagnoli, b[:blockData])
}

func sealBlock(b []byte, life, block uint64) { le.PutUint32(b[blockData:], blockCRC(b, life, block)) }

func validBlock(b []byte, life, block uint64) bool {
	return le.Uint32(b[blockData:]) == blockCRC(b, life, block)
}

// hash spreads a stream over the filter. It is part of the format.
func (s Stream) hash() uint64 {
	h := s.UID*0x9e3779b97f4a7c15 + uint64(s.Partition) + 1
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	return h ^ h>>31
}

// filterLines returns how many lines of 512 bits a filter for n streams has:
// about 13 bits a stream, so one stream in a hundred is looked for in vain.
func filterLines(n int) uint64 { return uint64(n)/40 + 1 }

// filterBits calls fn with the line and the five bits in it that stand for a
// stream.
func filterBits(s Stream, lines uint64, fn func(line uint64, bit uint) bool) bool {
	h := s.hash()
	line := (h >> 45) % lines
	for range 5 {
		if !fn(line, uint(h&511)) {
			return false
		}
		h >>= 9
	}
	return true
}

// indexWriter writes blocks of rows.
type indexWriter struct {
	f     vfs.File
	foot  footer
	off   int64 // of buf in the file
	buf   []byte
	row   [streamRow]byte
	used  int // bytes of the block in work
	block uint64
	err   error
}

const indexChunk = 64 * blockBytes

// add appends one row to a section.
func (iw *indexWriter) add(section int, row []byte) {
	if iw.used+len(row) > blockData || iw.used == 0 {
		iw.closeBlock()
		iw.buf = append(iw.buf, make([]byte, blockBytes)...)
	}
	copy(iw.buf[len(iw.buf)-blockBytes+iw.used:], row)
	iw.used += len(row)
	iw.foot.rows[section]++
}

// closeBlock seals the block in work; the next row begins another.
func (iw *indexWriter) closeBlock() {
	if iw.used == 0 {
		return
	}
	sealBlock(iw.buf[len(iw.buf)-blockBytes:], iw.foot.life, iw.block)
	iw.block++
	iw.used = 0
	if len(iw.buf) >= indexChunk {
		iw.flush()
	}
}

func (iw *indexWriter) flush() {
	if iw.err == nil {
		_, iw.err = iw.f.WriteAt(iw.buf, iw.off)
	}
	iw.off += int64(len(iw.buf))
	iw.buf = iw.buf[:0]
}

// indexed is what WriteIndex puts into a file and then into the groups.
type indexed struct {
	group uint64
	span  span   // with a copy of its refs; none if the segment has no live entries
	last  uint64 // the group's last entry at the segment's end, replaced later or not
}

// Sealed lists the segments that are complete and have no index file, in order.
func (w *WAL) Sealed() []Sealed {
	w.mu.RLock()
	defer w.mu.RUnlock()
	var list []Sealed
	for _, seg := range w.segments {
		if !seg.sealed || seg.index != nil {
			continue
		}
		s := Sealed{Number: seg.number}
		for _, id := range w.groupIDs() {
			r := GroupRange{Group: id, First: 1}
			for _, sp := range w.groups[id].spans {
				if sp.seg != seg {
					continue
				}
				if r.Last == 0 {
					r.First = sp.first
				}
				r.Last = sp.end() - 1
			}
			if r.Last > 0 {
				s.Groups = append(s.Groups, r)
			}
		}
		list = append(list, s)
	}
	return list
}

// WriteIndex makes a sealed segment's index file, durably. All entries of the
// segment must have been applied; streams holds the batches that they wrote,
// in any order, and is sorted in place. Afterwards the segment's entry
// positions come from the file.
func (w *WAL) WriteIndex(number uint64, streams []StreamRecord) error {
	seg, rows, err := w.indexRows(number)
	if err != nil {
		return err
	}
	if err := sortStreams(streams, seg.end); err != nil {
		return fmt.Errorf("wal: index segment %d: %w", number, err)
	}
	name := w.path(indexName(number))
	if err := w.writeIndexFile(name, seg, rows, streams); err != nil {
		return fmt.Errorf("wal: index segment %d: %w", number, err)
	}
	index, err := w.readIndex(seg)
	if err != nil {
		return err
	}
	return w.adopt(seg, index, rows)
}

// indexRows copies what memory knows of a segment's entries.
func (w *WAL) indexRows(number uint64) (*segment, []indexed, error) {
	w.mu.RLock()
	defer w.mu.RUnlock()
	seg := w.segmentLocked(number)
	switch {
	case seg == nil:
		return nil, nil, fmt.Errorf("wal: index: there is no segment %d", number)
	case !seg.sealed:
		return nil, nil, fmt.Errorf("wal: index: segment %d is not sealed", number)
	case seg.index != nil:
		return nil, nil, fmt.Errorf("wal: index: segment %d has an index file", number)
	}
	var rows []indexed
	at := 0
	for _, l := range seg.lasts {
		none := true
		for _, sp := range w.groups[l.group].spans {
			if sp.seg == seg {
				sp.refs = slices.Clone(sp.refs)
				sp.at = at
				at += sp.n
				rows = append(rows, indexed{l.group, sp, l.last})
				none = false
			}
		}
		if none {
			rows = append(rows, indexed{l.group, span{}, l.last})
		}
	}
	return seg, rows, nil
}

// adopt lets the groups take a segment's entries from its index file.
func (w *WAL) adopt(seg *segment, index *indexFile, rows []indexed) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	seg.index = index
	for _, row := range rows {
		found := row.span.n == 0
		spans := w.groups[row.group].spans
		for i := range spans {
			if spans[i].seg == seg && spans[i].first == row.span.first && spans[i].n == row.span.n {
				spans[i].refs, spans[i].at = nil, row.span.at
				found = true
			}
		}
		if !found {
			return fmt.Errorf("wal: index segment %d: entries %d to %d of group %d were replaced meanwhile: they had not been applied", seg.number, row.span.first, row.span.end()-1, row.group)
		}
	}
	return nil
}

// sortStreams sorts batches by stream and offset and checks that they can be
// searched.
func sortStreams(streams []StreamRecord, end int64) error {
	slices.SortFunc(streams, func(a, b StreamRecord) int {
		return cmp.Or(compareStreams(a.Stream, b.Stream), cmp.Compare(a.Base, b.Base))
	})
	for i, r := range streams {
		if r.Count == 0 || r.Base+uint64(r.Count) < r.Base || r.Offset < headerBytes || r.Offset+int64(r.Len) > end {
			return fmt.Errorf("batch %d of topic %d/%d lies outside the segment", r.Base, r.UID, r.Partition)
		}
		if i == 0 || streams[i-1].Stream != r.Stream {
			continue
		}
		if p := streams[i-1]; p.Base+uint64(p.Count) > r.Base || p.TS > r.TS {
			return fmt.Errorf("batch %d of topic %d/%d does not come after batch %d", r.Base, r.UID, r.Partition, p.Base)
		}
	}
	return nil
}

func compareStreams(a, b Stream) int {
	return cmp.Or(cmp.Compare(a.UID, b.UID), cmp.Compare(a.Partition, b.Partition))
}

func (w *WAL) writeIndexFile(name string, seg *segment, rows []indexed, streams []StreamRecord) error {
	temp := name + vfs.TempSuffix
	_ = w.fs.Remove(temp)
	f, err := w.fs.Create(temp)
	if err != nil {
		return err
	}
	iw := &indexWriter{f: f, foot: footer{life: seg.life, number: seg.number, end: seg.end}}
	w.addEntries(iw, rows)
	addStreams(iw, streams)
	iw.buf = append(iw.buf, iw.foot.encode()...)
	iw.flush()
	if err = iw.err; err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = w.fs.Rename(temp, name)
	}
	if err == nil {
		err = w.fs.SyncDir(w.o.Dir)
	}
	return err
}

// addEntries writes the sections that raft's reads need.
func (w *WAL) addEntries(iw *indexWriter, rows []indexed) {
	b := iw.row[:]
	for _, r := range rows {
		le.PutUint64(b, r.group)
		le.PutUint64(b[8:], r.span.first)
		le.PutUint64(b[16:], uint64(r.span.n))
		le.PutUint64(b[24:], uint64(r.span.at))
		le.PutUint64(b[32:], r.last)
		iw.add(secGroups, b[:groupRow])
	}
	iw.closeBlock()
	for _, r := range rows {
		for _, run := range w.termRuns(r) {
			le.PutUint64(b, r.group)
			le.PutUint64(b[8:], run.first)
			le.PutUint64(b[16:], run.term)
			iw.add(secTerms, b[:termRow])
		}
	}
	iw.closeBlock()
	for _, r := range rows {
		for _, ref := range r.span.refs {
			le.PutUint32(b, ref.off)
			le.PutUint32(b[4:], ref.sizeType)
			iw.add(secEntries, b[:entryRow])
		}
	}
	iw.closeBlock()
}

// termRuns returns the runs of terms inside a span, the first from its start.
func (w *WAL) termRuns(r indexed) []termRun {
	w.mu.RLock()
	defer w.mu.RUnlock()
	var runs []termRun
	if r.span.n == 0 {
		return nil
	}
	for _, run := range w.groups[r.group].terms {
		switch {
		case run.first <= r.span.first:
			runs = append(runs[:0], termRun{r.span.first, run.term})
		case run.first < r.span.end():
			runs = append(runs, run)
		}
	}
	return runs
}

// addStreams writes the sections that readers of messages need.
func addStreams(iw *indexWriter, streams []StreamRecord) {
	var rows []streamRange
	for i, r := range streams {
		if i == 0 || streams[i-1].Stream != r.Stream {
			rows = append(rows, streamRange{Stream: r.Stream, at: uint64(i), first: r.Base, firstTS: r.TS})
		}
		s := &rows[len(rows)-1]
		s.n, s.next, s.lastTS = s.n+1, r.Base+uint64(r.Count), r.TS
	}
	lines := filterLines(len(rows))
	filter := make([]byte, lines*filterRow)
	for _, s := range rows {
		filterBits(s.Stream, lines, func(line uint64, bit uint) bool {
			filter[line*filterRow+uint64(bit/8)] |= 1 << (bit % 8)
			return true
		})
	}
	for i := range lines {
		iw.add(secFilter, filter[i*filterRow:][:filterRow])
	}
	iw.closeBlock()
	for _, s := range rows {
		s.encode(iw.row[:])
		iw.add(secStreams, iw.row[:streamRow])
	}
	iw.closeBlock()
	for _, r := range streams {
		encodeBatch(iw.row[:], r)
		iw.add(secBatches, iw.row[:batchRow])
	}
	iw.closeBlock()
}

// streamRange is what an index file holds of one stream.
type streamRange struct {
	Stream
	n, at           uint64 // its batches: n rows from at on
	first, next     uint64 // offsets: from first to below next
	firstTS, lastTS uint64
}

func (s streamRange) encode(b []byte) {
	le.PutUint64(b, s.UID)
	le.PutUint32(b[8:], s.Partition)
	le.PutUint32(b[12:], uint32(s.n))
	le.PutUint64(b[16:], s.at)
	le.PutUint64(b[24:], s.first)
	le.PutUint64(b[32:], s.next)
	le.PutUint64(b[40:], s.firstTS)
	le.PutUint64(b[48:], s.lastTS)
	le.PutUint64(b[56:], 0)
}

func decodeStream(b []byte) streamRange {
	return streamRange{
		Stream: Stream{le.Uint64(b), le.Uint32(b[8:])},
		n:      uint64(le.Uint32(b[12:])), at: le.Uint64(b[16:]),
		first: le.Uint64(b[24:]), next: le.Uint64(b[32:]),
		firstTS: le.Uint64(b[40:]), lastTS: le.Uint64(b[48:]),
	}
}

func encodeBatch(b []byte, r StreamRecord) {
	le.PutUint64(b, r.Base)
	le.PutUint64(b[8:], r.TS)
	le.PutUint64(b[16:], r.Term)
	le.PutUint64(b[24:], r.Index)
	le.PutUint32(b[32:], r.Count)
	le.PutUint32(b[36:], r.Len)
	le.PutUint64(b[40:], uint64(r.Offset))
}

func decodeBatch(b []byte, s Stream) StreamRecord {
	return StreamRecord{
		Stream: s, Base: le.Uint64(b), TS: le.Uint64(b[8:]), Term: le.Uint64(b[16:]), Index: le.Uint64(b[24:]),
		Count: le.Uint32(b[32:]), Len: le.Uint32(b[36:]), Offset: int64(le.Uint64(b[40:])),
	}
}
