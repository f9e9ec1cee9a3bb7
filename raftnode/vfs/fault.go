package vfs

import (
	"io"
	"io/fs"
	"strings"
	"sync"
)

// Op is a kind of call that a Rule can hit.
type Op string

// The calls that rules name.
const (
	OpCreate   Op = "create"
	OpOpen     Op = "open"
	OpRead     Op = "read"
	OpWrite    Op = "write" // also File.Zero
	OpSync     Op = "sync"
	OpTruncate Op = "truncate"
	OpRename   Op = "rename"
	OpRemove   Op = "remove"
	OpMkdir    Op = "mkdir"
	OpSyncDir  Op = "syncdir"
)

// Rule makes calls fail. The zero values of Op and Name hit everything.
type Rule struct {
	// Op is the call to hit.
	Op Op
	// Name is a part of the name of the file to hit.
	Name string
	// After is how many calls that match pass first.
	After int
	// Count is how many calls fail then; 0 = all.
	Count int
	// Err is what they return; nil = they succeed (with Do, a slow call).
	Err error
	// Torn makes a write that fails leave its first half behind.
	Torn bool
	// Do is called before the effect, with no lock held. A test blocks in it.
	Do func()
}

// Fault wraps a file system and makes calls fail by rule: EIO, ENOSPC, torn
// and slow writes. A sync that fails on a Mem also loses the pages, as Linux
// does: see Mem.
type Fault struct {
	fs FS

	mu    sync.Mutex
	rules []*Rule
}

// NewFault returns fsys with no rules.
func NewFault(fsys FS) *Fault { return &Fault{fs: fsys} }

// Add adds a rule. The first that matches a call decides.
func (f *Fault) Add(r Rule) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rules = append(f.rules, &r)
}

// Clear removes all rules.
func (f *Fault) Clear() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rules = nil
}

// ReadOnly makes every call that changes something fail with fs.ErrPermission.
func (f *Fault) ReadOnly() {
	for _, op := range []Op{OpCreate, OpWrite, OpSync, OpTruncate, OpRename, OpRemove, OpMkdir, OpSyncDir} {
		f.Add(Rule{Op: op, Err: fs.ErrPermission})
	}
}

// hit returns what a call must do: err to fail, torn to leave half behind.
func (f *Fault) hit(op Op, name string) (err error, torn bool) {
	r := f.match(op, name)
	if r == nil {
		return nil, false
	}
	if r.Do != nil {
		r.Do()
	}
	if r.Err == nil {
		return nil, false
	}
	return &fs.PathError{Op: string(op), Path: name, Err: r.Err}, r.Torn
}

func (f *Fault) match(op Op, name string) *Rule {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, r := range f.rules {
		if (r.Op != "" && r.Op != op) || !strings.Contains(name, r.Name) {
			continue
		}
		if r.After > 0 {
			r.After--
			return nil
		}
		if r.Count > 0 {
			if r.Count--; r.Count == 0 {
				f.rules = append(f.rules[:i:i], f.rules[i+1:]...)
			}
		}
		return r
	}
	return nil
}

// Create implements FS.
func (f *Fault) Create(name string) (File, error) {
	if err, _ := f.hit(OpCreate, name); err != nil {
		return nil, err
	}
	return f.wrap(name)(f.fs.Create(name))
}

// Open implements FS.
func (f *Fault) Open(name string) (File, error) {
	if err, _ := f.hit(OpOpen, name); err != nil {
		return nil, err
	}
	return f.wrap(name)(f.fs.Open(name))
}

// OpenRead implements FS.
func (f *Fault) OpenRead(name string) (File, error) {
	if err, _ := f.hit(OpOpen, name); err != nil {
		return nil, err
	}
	return f.wrap(name)(f.fs.OpenRead(name))
}

func (f *Fault) wrap(name string) func(File, error) (File, error) {
	return func(file File, err error) (File, error) {
		if err != nil {
			return nil, err
		}
		return &faultFile{f, file, name}, nil
	}
}

// ReadFile implements FS.
func (f *Fault) ReadFile(name string, limit int64) ([]byte, error) { return readFile(f, name, limit) }

// WriteFile implements FS.
func (f *Fault) WriteFile(name string, data []byte) error { return writeFile(f, name, data) }

// MkdirAll implements FS.
func (f *Fault) MkdirAll(dir string) error {
	if err, _ := f.hit(OpMkdir, dir); err != nil {
		return err
	}
	return f.fs.MkdirAll(dir)
}

// ReadDir implements FS.
func (f *Fault) ReadDir(dir string) ([]string, error) {
	if err, _ := f.hit(OpRead, dir); err != nil {
		return nil, err
	}
	return f.fs.ReadDir(dir)
}

// Remove implements FS.
func (f *Fault) Remove(name string) error {
	if err, _ := f.hit(OpRemove, name); err != nil {
		return err
	}
	return f.fs.Remove(name)
}

// Rename implements FS.
func (f *Fault) Rename(from, to string) error {
	if err, _ := f.hit(OpRename, to); err != nil {
		return err
	}
	return f.fs.Rename(from, to)
}

// SyncDir implements FS.
func (f *Fault) SyncDir(dir string) error {
	if err, _ := f.hit(OpSyncDir, dir); err != nil {
		return err
	}
	return f.fs.SyncDir(dir)
}

// Size implements FS.
func (f *Fault) Size(name string) (int64, error) {
	if err, _ := f.hit(OpRead, name); err != nil {
		return 0, err
	}
	return f.fs.Size(name)
}

// Lock implements FS.
func (f *Fault) Lock(name string) (io.Closer, error) {
	if err, _ := f.hit(OpCreate, name); err != nil {
		return nil, err
	}
	return f.fs.Lock(name)
}

// Free implements FS.
func (f *Fault) Free(dir string) (uint64, error) { return f.fs.Free(dir) }

type faultFile struct {
	f    *Fault
	file File
	name string
}

// ReadAt implements File.
func (f *faultFile) ReadAt(p []byte, off int64) (int, error) {
	if err, _ := f.f.hit(OpRead, f.name); err != nil {
		return 0, err
	}
	return f.file.ReadAt(p, off)
}

// WriteAt implements File.
func (f *faultFile) WriteAt(p []byte, off int64) (int, error) {
	err, torn := f.f.hit(OpWrite, f.name)
	if err == nil {
		return f.file.WriteAt(p, off)
	}
	if !torn {
		return 0, err
	}
	n, werr := f.file.WriteAt(p[:len(p)/2], off)
	if werr != nil {
		return n, werr
	}
	return n, err
}

// Sync implements File.
func (f *faultFile) Sync() error {
	if err, _ := f.f.hit(OpSync, f.name); err != nil {
		if m, ok := f.file.(interface{ failSync() }); ok {
			m.failSync()
		}
		return err
	}
	return f.file.Sync()
}

// Size implements File.
func (f *faultFile) Size() (int64, error) { return f.file.Size() }

// Truncate implements File.
func (f *faultFile) Truncate(size int64) error {
	if err, _ := f.f.hit(OpTruncate, f.name); err != nil {
		return err
	}
	return f.file.Truncate(size)
}

// Zero implements File.
func (f *faultFile) Zero(size int64) error {
	if err, _ := f.f.hit(OpWrite, f.name); err != nil {
		return err
	}
	return f.file.Zero(size)
}

// Evict implements File.
func (f *faultFile) Evict() error { return f.file.Evict() }

// Close implements File.
func (f *faultFile) Close() error { return f.file.Close() }
