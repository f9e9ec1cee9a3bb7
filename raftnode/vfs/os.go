package vfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
)

// OS is the operating system's file system. Linux is what it is made for;
// elsewhere Sync is a full fsync and Evict does nothing.
type OS struct{}

const (
	filePerm      = 0o600
	dirPerm       = 0o750
	zeroStep      = 1 << 20 // bytes per write of Zero
	zeroSyncBytes = 4 << 20 // and per sync
)

// Create implements FS.
func (OS) Create(name string) (File, error) {
	return openOS(name, os.O_RDWR|os.O_CREATE|os.O_EXCL)
}

// Open implements FS.
func (OS) Open(name string) (File, error) { return openOS(name, os.O_RDWR) }

// OpenRead implements FS.
func (OS) OpenRead(name string) (File, error) { return openOS(name, os.O_RDONLY) }

func openOS(name string, flag int) (File, error) {
	f, err := os.OpenFile(name, flag, filePerm)
	if err != nil {
		return nil, err
	}
	return &osFile{f}, nil
}

// ReadFile implements FS.
func (o OS) ReadFile(name string, limit int64) ([]byte, error) { return readFile(o, name, limit) }

// WriteFile implements FS.
func (o OS) WriteFile(name string, data []byte) error { return writeFile(o, name, data) }

// MkdirAll implements FS.
func (o OS) MkdirAll(dir string) error {
	dir = filepath.Clean(dir)
	switch st, err := os.Stat(dir); {
	case err == nil && st.IsDir():
		return nil
	case err == nil:
		return fmt.Errorf("mkdir %s: a file has this name", dir)
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	parent := filepath.Dir(dir)
	if err := o.MkdirAll(parent); err != nil {
		return err
	}
	if err := os.Mkdir(dir, dirPerm); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return o.SyncDir(parent)
}

// ReadDir implements FS.
func (OS) ReadDir(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		names = append(names, e.Name())
	}
	sort.Strings(names)
	return names, nil
}

// Remove implements FS.
func (OS) Remove(name string) error { return os.Remove(name) }

// Rename implements FS.
func (OS) Rename(from, to string) error {
	if err := sameDir(from, to); err != nil {
		return err
	}
	return os.Rename(from, to)
}

func sameDir(from, to string) error {
	a, _ := split(filepath.Clean(from))
	b, _ := split(filepath.Clean(to))
	if a != b {
		return fmt.Errorf("rename %s to %s: not in the same folder", from, to)
	}
	return nil
}

// SyncDir implements FS.
func (OS) SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("sync folder: %w", err)
	}
	return nil
}

// Size implements FS.
func (OS) Size(name string) (int64, error) {
	st, err := os.Stat(name)
	if err != nil {
		return 0, err
	}
	return st.Size(), nil
}

// Lock implements FS.
func (OS) Lock(name string) (io.Closer, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, filePerm)
	if err != nil {
		return nil, err
	}
	if err := lockFile(f); err != nil {
		holder := make([]byte, 32)
		n, _ := f.ReadAt(holder, 0)
		f.Close()
		if errors.Is(err, ErrLocked) {
			return nil, lockedError(name, strings.TrimSpace(string(holder[:n])))
		}
		return nil, fmt.Errorf("lock %s: %w", name, err)
	}
	pid := strconv.Itoa(os.Getpid()) + "\n"
	if err := f.Truncate(0); err != nil {
		f.Close()
		return nil, err
	}
	if _, err := f.WriteAt([]byte(pid), 0); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func lockedError(name, holder string) error {
	if holder == "" {
		return fmt.Errorf("lock %s: %w", name, ErrLocked)
	}
	return fmt.Errorf("lock %s: %w (pid %s)", name, ErrLocked, holder)
}

// Free implements FS.
func (OS) Free(dir string) (uint64, error) { return freeSpace(dir) }

type osFile struct{ *os.File }

// Size implements File.
func (f *osFile) Size() (int64, error) {
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return st.Size(), nil
}

// Sync implements File.
func (f *osFile) Sync() error {
	if err := syncData(f.File); err != nil {
		return fmt.Errorf("sync %s: %w", f.Name(), err)
	}
	return nil
}

// Zero implements File.
func (f *osFile) Zero(size int64) error {
	if err := f.Truncate(size); err != nil {
		return err
	}
	if err := allocate(f.File, size); err != nil {
		return fmt.Errorf("allocate %d bytes for %s: %w", size, f.Name(), err)
	}
	zeros := make([]byte, min(size, zeroStep))
	for off := int64(0); off < size; off += zeroStep {
		if _, err := f.WriteAt(zeros[:min(size-off, zeroStep)], off); err != nil {
			return err
		}
		// A sync of everything at the end would fill the device's queue, and
		// the syncs of other files would stand behind it.
		if (off+zeroStep)%zeroSyncBytes == 0 {
			if err := f.Sync(); err != nil {
				return err
			}
		}
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return f.Evict()
}

// Evict implements File.
func (f *osFile) Evict() error { return dropCache(f.File) }
