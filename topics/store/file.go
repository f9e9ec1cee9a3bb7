package store

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"io/fs"

	"github.com/wiber/wiber/raftnode/vfs"
	"github.com/wiber/wiber/topics"
)

// The parts of a state file; docs/format/state.md has the diagram.
const (
	fileMagic   = "WBSTATE" // and the version
	fileVersion = 2         // version 1, which has no records of kind 9, is read too
	headerBytes = 24        // magic, version, group, sequence number
	blockHead   = 8         // length, CRC32C
	blockBytes  = 64 << 10  // a block is closed when it is longer
	endBytes    = 8 + 8     // an empty block's head, the number of records
	// maxBlockBytes bounds what a reader allocates for a block.
	maxBlockBytes = blockBytes + maxKeyBytes + topics.MaxStateValueBytes + 16
	maxKeyBytes   = 1024
)

// CorruptError says that a state file is not what the manifest says it is. The
// group cannot start from it.
type CorruptError struct {
	Group  uint64
	File   string
	Offset int64
	Err    error
}

// Error implements error.
func (e *CorruptError) Error() string {
	return fmt.Sprintf("store: %s is damaged at offset %d: %v", e.File, e.Offset, e.Err)
}

// Unwrap returns the reason.
func (e *CorruptError) Unwrap() error { return e.Err }

// fileWriter writes one state file. Records come in the order of their keys.
type fileWriter struct {
	f       vfs.File
	off     int64
	sum     hash.Hash
	block   []byte // begins with room for its head
	last    []byte
	records uint64
}

func newFileWriter(fsys vfs.FS, name string, group, sequence uint64) (*fileWriter, error) {
	f, err := fsys.Create(name)
	if err != nil {
		return nil, err
	}
	w := &fileWriter{f: f, sum: sha256.New(), block: make([]byte, blockHead, blockBytes+4096)}
	head := append(append(make([]byte, 0, headerBytes), fileMagic...), fileVersion)
	head = binary.LittleEndian.AppendUint64(head, group)
	head = binary.LittleEndian.AppendUint64(head, sequence)
	return w, w.write(head)
}

func (w *fileWriter) write(b []byte) error {
	_, err := w.f.WriteAt(b, w.off)
	w.off += int64(len(b))
	w.sum.Write(b)
	return err
}

// add writes one record. A deleted one hides what older files have.
func (w *fileWriter) add(key, value []byte, deleted bool) error {
	if w.records > 0 && bytes.Compare(w.last, key) >= 0 {
		return errors.New("store: state records out of order")
	}
	if len(key) > maxKeyBytes || len(value) > topics.MaxStateValueBytes {
		return fmt.Errorf("store: a state record of %d and %d bytes", len(key), len(value))
	}
	w.last = append(w.last[:0], key...)
	w.records++
	w.block = binary.AppendUvarint(w.block, uint64(len(key)))
	if deleted {
		w.block = binary.AppendUvarint(w.block, 0)
	} else {
		w.block = binary.AppendUvarint(w.block, uint64(len(value))+1)
	}
	w.block = append(w.block, key...)
	w.block = append(w.block, value...)
	if len(w.block) >= blockBytes {
		return w.flush()
	}
	return nil
}

func (w *fileWriter) flush() error {
	if len(w.block) == blockHead {
		return nil
	}
	payload := w.block[blockHead:]
	binary.LittleEndian.PutUint32(w.block, uint32(len(payload)))
	binary.LittleEndian.PutUint32(w.block[4:], crc32.Checksum(payload, castagnoli))
	err := w.write(w.block)
	w.block = w.block[:blockHead]
	return err
}

// finish ends the file and makes it durable, but not its name.
func (w *fileWriter) finish(name string) (File, error) {
	if err := w.flush(); err != nil {
		return File{}, err
	}
	end := binary.LittleEndian.AppendUint64(make([]byte, 8, endBytes), w.records)
	if err := w.write(end); err != nil {
		return File{}, err
	}
	if err := w.f.Sync(); err != nil {
		return File{}, err
	}
	file := File{Name: name, Size: w.off, Records: w.records}
	w.sum.Sum(file.SHA256[:0])
	return file, w.f.Close()
}

// fileReader reads one state file from the beginning to the end. What it
// returned counts only when it has ended with io.EOF: then the whole file has
// the checksum that the manifest has.
type fileReader struct {
	path    string
	group   uint64
	file    File
	f       vfs.File
	off     int64
	sum     hash.Hash
	block   []byte // what is left of the current block
	buf     []byte
	records uint64

	key, value []byte
	deleted    bool
}

func openFileReader(fsys vfs.FS, dir string, file File, group uint64) (*fileReader, error) {
	path := vfs.Join(dir, file.Name)
	f, err := fsys.OpenRead(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &CorruptError{Group: group, File: path, Err: errors.New("the file is missing")}
	}
	if err != nil {
		return nil, err
	}
	r := &fileReader{path: path, group: group, file: file, f: f, sum: sha256.New()}
	if err := r.open(group); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return r, nil
}

func (r *fileReader) open(group uint64) error {
	size, err := r.f.Size()
	if err != nil {
		return err
	}
	if size != r.file.Size || size < headerBytes+endBytes {
		return r.corrupt(0, "it has %d bytes, the manifest says %d", size, r.file.Size)
	}
	head, err := r.take(headerBytes)
	if err != nil {
		return err
	}
	if string(head[:7]) != fileMagic || binary.LittleEndian.Uint64(head[8:]) != group {
		return r.corrupt(0, "not a state file of group %d", group)
	}
	if v := head[7]; v < 1 || v > fileVersion {
		return r.corrupt(0, "it has version %d, this program reads versions 1 to %d", v, fileVersion)
	}
	return nil
}

func (r *fileReader) corrupt(at int64, format string, args ...any) error {
	return &CorruptError{Group: r.group, File: r.path, Offset: at, Err: fmt.Errorf(format, args...)}
}

// take reads the next n bytes.
func (r *fileReader) take(n int) ([]byte, error) {
	if r.off+int64(n) > r.file.Size {
		return nil, r.corrupt(r.off, "it ends early")
	}
	if cap(r.buf) < n {
		r.buf = make([]byte, n)
	}
	b := r.buf[:n]
	if m, err := r.f.ReadAt(b, r.off); m < n {
		return nil, fmt.Errorf("read %s: %w", r.path, err)
	}
	r.off += int64(n)
	r.sum.Write(b)
	return b, nil
}

// next steps to the next record; io.EOF at the end of a sound file.
func (r *fileReader) next() error {
	if len(r.block) == 0 {
		if err := r.nextBlock(); err != nil {
			return err
		}
	}
	at := r.off - int64(len(r.block))
	k, n := binary.Uvarint(r.block)
	if n <= 0 || k > maxKeyBytes {
		return r.corrupt(at, "a record without a key")
	}
	v, m := binary.Uvarint(r.block[n:])
	rest := uint64(len(r.block) - n - max(m, 0))
	if m <= 0 || v > topics.MaxStateValueBytes+1 || k+max(v, 1)-1 > rest {
		return r.corrupt(at, "a record that is cut off")
	}
	body := r.block[n+m:]
	key := body[:k]
	if r.records > 0 && bytes.Compare(r.key, key) >= 0 {
		return r.corrupt(at, "records out of order")
	}
	r.key = append(r.key[:0], key...)
	r.deleted = v == 0
	v = max(v, 1) - 1
	r.value = body[k : k+v]
	r.block = body[k+v:]
	r.records++
	return nil
}

func (r *fileReader) nextBlock() error {
	at := r.off
	head, err := r.take(blockHead)
	if err != nil {
		return err
	}
	n, crc := binary.LittleEndian.Uint32(head), binary.LittleEndian.Uint32(head[4:])
	if n == 0 {
		return r.end(at)
	}
	if n > maxBlockBytes {
		return r.corrupt(at, "a block of %d bytes", n)
	}
	if r.block, err = r.take(int(n)); err != nil {
		return err
	}
	if crc32.Checksum(r.block, castagnoli) != crc {
		return r.corrupt(at, "the checksum of a block is wrong")
	}
	return nil
}

// end checks what only the whole file can tell.
func (r *fileReader) end(at int64) error {
	b, err := r.take(8)
	if err != nil {
		return err
	}
	records := binary.LittleEndian.Uint64(b)
	if r.off != r.file.Size || records != r.records || records != r.file.Records {
		return r.corrupt(at, "it ends after %d records, the manifest says %d", r.records, r.file.Records)
	}
	if [sha256.Size]byte(r.sum.Sum(nil)) != r.file.SHA256 {
		return r.corrupt(0, "its checksum is not the manifest's")
	}
	return io.EOF
}

func (r *fileReader) close() error { return r.f.Close() }

// merge reads files as one: of several records with one key that of the newest
// file counts, and deleted ones are left out.
type merge struct {
	open []*fileReader // oldest first; ended ones are closed and gone
	from *fileReader   // whose record was returned last
}

// openMerge opens files, oldest first.
func openMerge(fsys vfs.FS, dir string, files []File, group uint64) (*merge, error) {
	m := &merge{}
	for _, file := range files {
		r, err := openFileReader(fsys, dir, file, group)
		if err != nil {
			return nil, errors.Join(err, m.close())
		}
		m.open = append(m.open, r)
		if err := m.step(r); err != nil {
			return nil, errors.Join(err, m.close())
		}
	}
	return m, nil
}

// step moves one file on, and closes it at its end.
func (m *merge) step(r *fileReader) error {
	err := r.next()
	if !errors.Is(err, io.EOF) {
		return err
	}
	for i, o := range m.open {
		if o == r {
			m.open = append(m.open[:i:i], m.open[i+1:]...)
			break
		}
	}
	return r.close()
}

// next returns the next record, io.EOF at the end of all files. The slices are
// valid until the next call.
func (m *merge) next() (key, value []byte, err error) {
	for {
		if m.from != nil {
			// Its record was returned, or is deleted: every file goes past it.
			done := append([]byte(nil), m.from.key...)
			m.from = nil
			for i := 0; i < len(m.open); {
				r := m.open[i]
				if !bytes.Equal(r.key, done) {
					i++
					continue
				}
				before := len(m.open)
				if err := m.step(r); err != nil {
					return nil, nil, err
				}
				if len(m.open) == before {
					i++
				}
			}
		}
		if len(m.open) == 0 {
			return nil, nil, io.EOF
		}
		least := m.open[0]
		for _, r := range m.open[1:] {
			if bytes.Compare(r.key, least.key) <= 0 { // the newer one of two
				least = r
			}
		}
		m.from = least
		if !least.deleted {
			return least.key, least.value, nil
		}
	}
}

func (m *merge) close() error {
	var err error
	for _, r := range m.open {
		err = errors.Join(err, r.close())
	}
	m.open = nil
	return err
}
