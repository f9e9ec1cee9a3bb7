package wal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"go.etcd.io/raft/v3/raftpb"
)

// The layout of a segment; docs/format/wal.md draws it. All numbers are little
// endian.
const (
	formatVersion = 1
	segmentMagic  = "WIBERWAL"
	blockBytes    = 4096
	headerBytes   = blockBytes // a segment's header has a block of its own
	frameHead     = 32         // bytes before a frame's payload
	recordHead    = 16         // kind, zeros, count, group
	stateBytes    = 24         // term, vote, commit
	entryHead     = 16         // crc, size and type, term
	sizeBits      = 30         // of an entry's size; the type has the rest

	// MaxFrameBytes is the largest payload of a frame: what one Append may hold.
	MaxFrameBytes = 256 << 20
	// maxSegmentBytes keeps every offset in 32 bits.
	maxSegmentBytes = 1 << 30
)

// Kinds of records.
const (
	kindState   = 1 // a group's hard state
	kindEntries = 2 // entries; what lay at their indexes and above is gone
	kindCarried = 3 // entries written again; nothing is gone
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var le = binary.LittleEndian

// header is the first block of a segment. It seals the one before.
type header struct {
	life, number uint64
	prevLife     uint64 // 0 for the first segment
	prevEnd      int64  // where the valid frames of the segment before end
	firstFrame   uint64 // the number of the first frame in this segment
	version      uint32 // as read
}

func (h header) encode() []byte {
	b := make([]byte, headerBytes)
	copy(b, segmentMagic)
	le.PutUint32(b[8:], formatVersion)
	le.PutUint64(b[16:], h.life)
	le.PutUint64(b[24:], h.number)
	le.PutUint64(b[32:], h.prevLife)
	le.PutUint64(b[40:], uint64(h.prevEnd))
	le.PutUint64(b[48:], h.firstFrame)
	le.PutUint32(b[headerBytes-4:], crc32.Checksum(b[:headerBytes-4], castagnoli))
	return b
}

// errVersion is turned into a VersionError by who knows the file's name.
var errVersion = errors.New("unknown format version")

func decodeHeader(b []byte) (header, error) {
	var h header
	if len(b) < headerBytes {
		return h, errors.New("the file is shorter than its header")
	}
	if string(b[:8]) != segmentMagic {
		return h, errors.New("no segment header")
	}
	if h.version = le.Uint32(b[8:]); h.version != formatVersion {
		return h, errVersion
	}
	if crc32.Checksum(b[:headerBytes-4], castagnoli) != le.Uint32(b[headerBytes-4:]) {
		return h, errors.New("the header's checksum is wrong")
	}
	h.life, h.number = le.Uint64(b[16:]), le.Uint64(b[24:])
	h.prevLife, h.prevEnd = le.Uint64(b[32:]), int64(le.Uint64(b[40:]))
	h.firstFrame = le.Uint64(b[48:])
	if h.life == 0 || h.number == 0 || h.firstFrame == 0 {
		return h, errors.New("the header has a zero where none may be")
	}
	return h, nil
}

// frame is what stands before a payload.
type frame struct {
	number uint64
	synced int64 // up to this offset of the segment an earlier fdatasync covers
	length int
}

// seal writes a frame's head into b, whose payload is in place, for a segment
// of this life and an offset in it. The checksum covers both: a frame that was
// copied, or written at the wrong place, is no frame.
func (fr frame) seal(b []byte, life uint64, off int64) {
	le.PutUint32(b[4:], uint32(len(b)-frameHead))
	le.PutUint64(b[8:], life)
	le.PutUint64(b[16:], fr.number)
	le.PutUint64(b[24:], uint64(fr.synced))
	le.PutUint32(b, frameCRC(b, life, off))
}

func frameCRC(b []byte, life uint64, off int64) uint32 {
	var seed [16]byte
	le.PutUint64(seed[:], life)
	le.PutUint64(seed[8:], uint64(off))
	crc := crc32.Update(0, castagnoli, seed[:])
	return crc32.Update(crc, castagnoli, b[4:])
}

// parseHead reads a frame's head without its checksum. room is how many bytes
// the segment has from the frame's start on.
func parseHead(b []byte, life uint64, off, room int64) (frame, error) {
	if le.Uint64(b[8:]) != life {
		return frame{}, errors.New("not a frame of this segment's life")
	}
	n := int64(le.Uint32(b[4:]))
	if n > MaxFrameBytes || n > room-frameHead {
		return frame{}, fmt.Errorf("a frame of %d bytes does not fit", n)
	}
	fr := frame{number: le.Uint64(b[16:]), synced: int64(le.Uint64(b[24:])), length: int(n)}
	if fr.synced < headerBytes || fr.synced > off {
		return frame{}, errors.New("the synced-through lies outside what was written")
	}
	return fr, nil
}

// appendState and appendEntries encode one record.
func appendState(b []byte, group uint64, hs *raftpb.HardState) []byte {
	b = appendRecordHead(b, kindState, group, 0)
	b = le.AppendUint64(b, hs.GetTerm())
	b = le.AppendUint64(b, hs.GetVote())
	return le.AppendUint64(b, hs.GetCommit())
}

func appendEntries(b []byte, kind byte, group uint64, entries []*raftpb.Entry) []byte {
	b = appendRecordHead(b, kind, group, len(entries))
	b = le.AppendUint64(b, entries[0].GetIndex())
	for _, e := range entries {
		at := len(b)
		b = le.AppendUint32(b, 0)
		b = le.AppendUint32(b, uint32(len(e.GetData()))|uint32(e.GetType())<<sizeBits)
		b = le.AppendUint64(b, e.GetTerm())
		b = append(b, e.GetData()...)
		le.PutUint32(b[at:], entryCRC(b[at:], group, e.GetIndex()))
	}
	return b
}

func appendRecordHead(b []byte, kind byte, group uint64, count int) []byte {
	b = append(b, kind, 0, 0, 0)
	b = le.AppendUint32(b, uint32(count))
	return le.AppendUint64(b, group)
}

// entryCRC covers an entry with its place in the group's log, so that an entry
// read alone is checked too. b is the entry from its head on.
func entryCRC(b []byte, group, index uint64) uint32 {
	var seed [16]byte
	le.PutUint64(seed[:], group)
	le.PutUint64(seed[8:], index)
	crc := crc32.Update(0, castagnoli, seed[:])
	return crc32.Update(crc, castagnoli, b[4:])
}

// record is one decoded record of a payload. Its entries are walked with each.
type record struct {
	kind               byte
	group              uint64
	term, vote, commit uint64 // of a hard state
	first              uint64 // index of the first entry
	count              int
	body               []byte // the entries
	off                int64  // of body in the segment
}

var errRecord = errors.New("a record does not fit its frame")

// eachRecord calls fn for the records of a payload that begins at off of its
// segment. It allocates nothing that the payload's length does not justify.
func eachRecord(payload []byte, off int64, fn func(record) error) error {
	for len(payload) > 0 {
		if len(payload) < recordHead {
			return errRecord
		}
		r := record{kind: payload[0], count: int(le.Uint32(payload[4:])), group: le.Uint64(payload[8:])}
		if !bytes.Equal(payload[1:4], []byte{0, 0, 0}) {
			return errors.New("a record has an unknown flag")
		}
		payload, off = payload[recordHead:], off+recordHead
		n, err := r.decode(payload, off)
		if err != nil {
			return err
		}
		if err := fn(r); err != nil {
			return err
		}
		payload, off = payload[n:], off+int64(n)
	}
	return nil
}

// decode reads what follows a record's head and returns its length.
func (r *record) decode(b []byte, off int64) (int, error) {
	switch r.kind {
	case kindState:
		if len(b) < stateBytes || r.count != 0 {
			return 0, errRecord
		}
		r.term, r.vote, r.commit = le.Uint64(b), le.Uint64(b[8:]), le.Uint64(b[16:])
		return stateBytes, nil
	case kindEntries, kindCarried:
		if len(b) < 8 {
			return 0, errRecord
		}
		r.first, r.body, r.off = le.Uint64(b), b[8:], off+8
		if r.count == 0 || r.first == 0 || r.first+uint64(r.count) < r.first {
			return 0, errors.New("a record's entries have no valid index")
		}
		n := 0
		for range r.count {
			if len(r.body)-n < entryHead {
				return 0, errRecord
			}
			size := int(le.Uint32(r.body[n+4:]) & (1<<sizeBits - 1))
			if len(r.body)-n-entryHead < size {
				return 0, errRecord
			}
			n += entryHead + size
		}
		r.body = r.body[:n]
		return 8 + n, nil
	}
	return 0, fmt.Errorf("a record has the unknown kind %d", r.kind)
}

// each calls fn with each entry's reference and term.
func (r record) each(fn func(index uint64, ref ref, term uint64)) {
	n := 0
	for i := range r.count {
		sizeType := le.Uint32(r.body[n+4:])
		fn(r.first+uint64(i), ref{off: uint32(r.off) + uint32(n), sizeType: sizeType}, le.Uint64(r.body[n+8:]))
		n += entryHead + int(sizeType&(1<<sizeBits-1))
	}
}

// ref says where an entry lies in its segment: 8 bytes an entry is what the
// log keeps in memory for segments without an index file.
type ref struct {
	off      uint32 // of the entry's head
	sizeType uint32
}

func (r ref) size() int   { return int(r.sizeType & (1<<sizeBits - 1)) }
func (r ref) end() int64  { return int64(r.off) + entryHead + int64(r.size()) }
func (r ref) data() int64 { return int64(r.off) + entryHead }

// decodeEntry reads an entry that was read alone. Its data aliases b.
func decodeEntry(b []byte, r ref, group, index uint64) (*raftpb.Entry, error) {
	if le.Uint32(b[4:]) != r.sizeType || entryCRC(b, group, index) != le.Uint32(b) {
		return nil, fmt.Errorf("the checksum of entry %d of group %d is wrong", index, group)
	}
	term, typ := le.Uint64(b[8:]), raftpb.EntryType(r.sizeType>>sizeBits)
	e := &raftpb.Entry{Term: &term, Index: &index, Type: &typ}
	if data := b[entryHead:]; len(data) > 0 {
		e.Data = data[:len(data):len(data)]
	}
	return e, nil
}

// frames reads the frames of a segment one after the other.
type frames struct {
	r      io.ReaderAt
	life   uint64
	size   int64  // of the segment's file
	off    int64  // of the next frame
	number uint64 // of the next frame
	synced int64  // the largest synced-through seen

	buf    []byte // a window of the file
	bufOff int64
}

const windowBytes = 1 << 20

// errFrame is the reason why the bytes at an offset are no frame.
type errFrame struct{ reason error }

func (e errFrame) Error() string { return e.reason.Error() }

// next returns the next frame's payload and its offset. An errFrame says that
// there is no valid frame here; any other error that the disk could not be
// read. The payload is valid until the next call.
func (f *frames) next() (payload []byte, off int64, err error) {
	fr, b, err := f.at(f.off)
	if err != nil {
		return nil, 0, err
	}
	if fr.number != f.number {
		return nil, 0, errFrame{fmt.Errorf("frame %d stands where frame %d should", fr.number, f.number)}
	}
	off = f.off + frameHead
	f.off += int64(len(b))
	f.number++
	f.synced = max(f.synced, fr.synced)
	return b[frameHead:], off, nil
}

// at returns the frame at an offset, head and payload.
func (f *frames) at(off int64) (frame, []byte, error) {
	room := f.size - off
	if room < frameHead {
		return frame{}, nil, errFrame{errors.New("no room for a frame")}
	}
	b, err := f.window(off, frameHead)
	if err != nil {
		return frame{}, nil, err
	}
	fr, err := parseHead(b, f.life, off, room)
	if err != nil {
		return frame{}, nil, errFrame{err}
	}
	if b, err = f.window(off, frameHead+fr.length); err != nil {
		return frame{}, nil, err
	}
	if frameCRC(b, f.life, off) != le.Uint32(b) {
		return frame{}, nil, errFrame{errors.New("the frame's checksum is wrong")}
	}
	return fr, b, nil
}

// window returns n bytes at off, which lie inside the file.
func (f *frames) window(off int64, n int) ([]byte, error) {
	if off < f.bufOff || off+int64(n) > f.bufOff+int64(len(f.buf)) {
		want := int(min(int64(max(n, windowBytes)), f.size-off))
		if cap(f.buf) < want {
			f.buf = make([]byte, want)
		}
		f.buf, f.bufOff = f.buf[:want], off
		if err := readFull(f.r, f.buf, off); err != nil {
			f.buf = f.buf[:0]
			return nil, err
		}
	}
	return f.buf[off-f.bufOff:][:n], nil
}

// behind looks for valid frames behind the first invalid one. They cannot be
// reached by their lengths, so every place where the segment's life stands is
// tried. It returns how many there are, the largest synced-through among them,
// and the offset behind the last byte that is not zero.
func (f *frames) behind(from int64) (count int, synced, used int64, err error) {
	var life [8]byte
	le.PutUint64(life[:], f.life)
	used = from
	chunk := make([]byte, min(windowBytes, max(f.size-from, 0)))
	for off := from; off < f.size; {
		b := chunk[:min(int64(len(chunk)), f.size-off)]
		if err := readFull(f.r, b, off); err != nil {
			return 0, 0, 0, err
		}
		if n := len(bytes.TrimRight(b, "\x00")); n > 0 {
			used = off + int64(n)
		}
		next := off + int64(len(b))
		if next < f.size {
			next -= int64(len(life)) - 1 // a life may lie across two chunks
		}
		for p := 0; ; p++ {
			i := bytes.Index(b[p:], life[:])
			if i < 0 {
				break
			}
			p += i
			start := off + int64(p) - 8
			if start < from {
				continue
			}
			fr, _, err := f.at(start)
			var bad errFrame
			switch {
			case err == nil:
				count++
				synced = max(synced, fr.synced)
			case !errors.As(err, &bad):
				return 0, 0, 0, err
			}
		}
		off = next
	}
	return count, synced, used, nil
}
