package vfs

import (
	"errors"
	"io"
	"io/fs"
)

// memFile is an open file of a Mem.
type memFile struct {
	m        *Mem
	n        *memNode
	name     string
	readOnly bool
	closed   bool
}

// usableLocked returns why the file cannot be used, if so.
func (f *memFile) usableLocked(op string, change bool) error {
	switch {
	case f.closed:
		return &fs.PathError{Op: op, Path: f.name, Err: fs.ErrClosed}
	case change && f.readOnly:
		return &fs.PathError{Op: op, Path: f.name, Err: errors.New("bad file descriptor")}
	case f.m.off:
		return ErrPowerOff
	}
	return nil
}

// ReadAt implements File.
func (f *memFile) ReadAt(p []byte, off int64) (int, error) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if err := f.usableLocked("read", false); err != nil {
		return 0, err
	}
	if off < 0 {
		return 0, &fs.PathError{Op: "read", Path: f.name, Err: fs.ErrInvalid}
	}
	if off >= int64(len(f.n.data)) {
		return 0, io.EOF
	}
	n := copy(p, f.n.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// WriteAt implements File.
func (f *memFile) WriteAt(p []byte, off int64) (int, error) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if err := f.usableLocked("write", true); err != nil {
		return 0, err
	}
	if off < 0 {
		return 0, &fs.PathError{Op: "write", Path: f.name, Err: fs.ErrInvalid}
	}
	half, err := f.m.stepLocked()
	if half {
		p = p[:f.m.rnd.IntN(len(p)+1)]
	}
	f.n.write(p, off)
	return len(p), err
}

func (n *memNode) write(p []byte, off int64) {
	if len(p) == 0 {
		return
	}
	n.data = patch(n.data, off, p)
	n.changes = append(n.changes, change{off: off, data: append([]byte(nil), p...), size: int64(len(n.data))})
}

// Sync implements File.
func (f *memFile) Sync() error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if err := f.usableLocked("sync", true); err != nil {
		return err
	}
	if _, err := f.m.stepLocked(); err != nil {
		return err // Crash decides how far it came
	}
	f.n.sync()
	return nil
}

// failSync is a sync that fails: a part reached the disk, and all pages count
// as clean from now on, so no later sync will write the rest.
func (f *memFile) failSync() {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	f.n.disk = f.m.reached(f.n)
	f.n.changes = nil
	f.n.stale = true
}

// Size implements File.
func (f *memFile) Size() (int64, error) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if err := f.usableLocked("stat", false); err != nil {
		return 0, err
	}
	return int64(len(f.n.data)), nil
}

// Truncate implements File.
func (f *memFile) Truncate(size int64) error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if err := f.usableLocked("truncate", true); err != nil {
		return err
	}
	if size < 0 {
		return &fs.PathError{Op: "truncate", Path: f.name, Err: fs.ErrInvalid}
	}
	_, err := f.m.stepLocked()
	f.n.truncate(size)
	return err
}

func (n *memNode) truncate(size int64) {
	c := change{off: size, size: size}
	if cut := int64(len(n.data)) - size; cut > 0 {
		c.data = make([]byte, cut)
	}
	n.data = resize(n.data, size)
	n.changes = append(n.changes, c)
}

// Zero implements File.
func (f *memFile) Zero(size int64) error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if err := f.usableLocked("truncate", true); err != nil {
		return err
	}
	half, err := f.m.stepLocked()
	if half {
		size = f.m.rnd.Int64N(size + 1)
	}
	f.n.truncate(0)
	f.n.write(make([]byte, size), 0)
	if err == nil {
		f.n.sync()
	}
	return err
}

// Evict implements File.
func (f *memFile) Evict() error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if err := f.usableLocked("evict", false); err != nil {
		return err
	}
	if !f.n.stale {
		return nil
	}
	data := append([]byte(nil), f.n.disk...)
	for _, c := range f.n.changes {
		data = patch(data, c.off, c.data)
		data = resize(data, c.size)
	}
	f.n.data, f.n.stale = data, false
	return nil
}

// Close implements File.
func (f *memFile) Close() error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if f.closed {
		return &fs.PathError{Op: "close", Path: f.name, Err: fs.ErrClosed}
	}
	f.closed = true
	return nil
}
