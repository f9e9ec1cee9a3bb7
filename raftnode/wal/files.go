package wal

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/wiber/wiber/raftnode/vfs"
)

// Names in the log's folder.
const (
	segmentSuffix = ".wal"
	indexSuffix   = ".idx"
	spareName     = "spare"
	nextName      = "next" + vfs.TempSuffix
	nameDigits    = 12
)

func segmentName(number uint64) string {
	return fmt.Sprintf("%0*d", nameDigits, number) + segmentSuffix
}
func indexName(number uint64) string { return fmt.Sprintf("%0*d", nameDigits, number) + indexSuffix }

func (w *WAL) path(name string) string { return vfs.Join(w.o.Dir, name) }

// parseName returns the number in a segment's or index file's name.
func parseName(name, suffix string) (uint64, bool) {
	digits, ok := strings.CutSuffix(name, suffix)
	if !ok || len(digits) < nameDigits {
		return 0, false
	}
	n, err := strconv.ParseUint(digits, 10, 64)
	return n, err == nil && n > 0
}

// readFull reads len(p) bytes that must be there.
func readFull(r io.ReaderAt, p []byte, off int64) error {
	n, err := r.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// maxOpenFiles bounds the descriptors of sealed segments and index files.
const maxOpenFiles = 128

// fileCache keeps files open for reading, and closes the one that was not used
// for longest when there are too many.
type fileCache struct {
	fs     vfs.FS
	dir    string
	preads atomic.Uint64

	mu     sync.Mutex
	open   map[string]*openFile
	clock  uint64
	pinned *openFile // the active segment, in use by Append
}

type openFile struct {
	f     vfs.File
	users int
	used  uint64
}

// pin adds the active segment's file, which stays open until the next is
// pinned.
func (c *fileCache) pin(name string, f vfs.File) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pinned != nil {
		c.pinned.users--
	}
	c.shrinkLocked()
	c.pinned = &openFile{f: f, users: 1}
	c.open[name] = c.pinned
}

// read reads len(p) bytes of a file.
func (c *fileCache) read(name string, p []byte, off int64) error {
	of, err := c.acquire(name)
	if err != nil {
		return err
	}
	c.preads.Add(1)
	err = readFull(of.f, p, off)
	c.mu.Lock()
	of.users--
	c.mu.Unlock()
	if err != nil {
		return fmt.Errorf("wal: read %s at %d: %w", name, off, err)
	}
	return nil
}

func (c *fileCache) acquire(name string) (*openFile, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.clock++
	of := c.open[name]
	if of == nil {
		f, err := c.fs.OpenRead(vfs.Join(c.dir, name))
		if err != nil {
			return nil, fmt.Errorf("wal: %w", err)
		}
		c.shrinkLocked()
		of = &openFile{f: f}
		c.open[name] = of
	}
	of.users++
	of.used = c.clock
	return of, nil
}

func (c *fileCache) shrinkLocked() {
	if len(c.open) < maxOpenFiles {
		return
	}
	oldest := ""
	for name, of := range c.open {
		if of.users == 0 && (oldest == "" || of.used < c.open[oldest].used) {
			oldest = name
		}
	}
	if oldest != "" {
		c.open[oldest].f.Close()
		delete(c.open, oldest)
	}
}

func (c *fileCache) close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var first error
	for _, of := range c.open {
		if err := of.f.Close(); err != nil && first == nil {
			first = err
		}
	}
	clear(c.open)
	return first
}
