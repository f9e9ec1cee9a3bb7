// Package vfs is the file-system seam: everything a node keeps goes through FS.
//
// Three file systems stand behind it. OS is the real one. Mem lives in memory
// and can lose power: Crash gives the disk as a machine would find it after a
// power cut, with all that was synced and a random part of the rest. Fault
// wraps either and makes chosen calls fail.
//
// The promises are those of a POSIX file system that is used carefully, and
// one contract test holds OS and Mem to them:
//
//	Durable:   what was written is on the disk only after File.Sync returned nil.
//	Entries:   a created, renamed or removed name is on the disk only after
//	           FS.SyncDir of its folder returned nil. MkdirAll and WriteFile
//	           do that themselves.
//	FailedSync: after a failed Sync nobody knows what the disk holds, and a
//	           later Sync that succeeds proves nothing. The caller must end.
//
// Not here: what the files mean (wal, store), and retries. Start reading at FS.
package vfs

import (
	"errors"
	"fmt"
	"io"
	"strings"
)

// FS is a file system as a node uses it. Names are paths with slashes, absolute
// or relative to the process's working folder. All methods may be called
// concurrently. Errors wrap io/fs's sentinels (fs.ErrNotExist, fs.ErrExist).
type FS interface {
	// Create makes a new, empty file and opens it for reading and writing. It
	// fails with fs.ErrExist if the name is taken.
	Create(name string) (File, error)
	// Open opens an existing file for reading and writing.
	Open(name string) (File, error)
	// OpenRead opens an existing file for reading only.
	OpenRead(name string) (File, error)
	// ReadFile returns a file's content. A file of more than limit bytes is an
	// error, and nothing is allocated for it.
	ReadFile(name string, limit int64) ([]byte, error)
	// WriteFile replaces a file's content as one step: a temporary file beside
	// it (TempSuffix) is written and synced, renamed over name, and the folder
	// is synced. After a crash the name holds the old content or the new one.
	WriteFile(name string, data []byte) error
	// MkdirAll makes a folder and those above it, durably. A folder that is
	// there already is no error.
	MkdirAll(dir string) error
	// ReadDir returns the names in a folder, sorted, without the folder's path.
	ReadDir(dir string) ([]string, error)
	// Remove removes a file or an empty folder.
	Remove(name string) error
	// Rename gives a file another name in the same folder and replaces what had
	// it. A rename to another folder is an error.
	Rename(from, to string) error
	// SyncDir makes the names in a folder durable.
	SyncDir(dir string) error
	// Size returns a file's length in bytes.
	Size(name string) (int64, error)
	// Lock takes an exclusive lock that ends with Close or with the process. It
	// creates the file and writes the process's number into it. If another
	// holds the lock the error wraps ErrLocked and names the holder.
	Lock(name string) (io.Closer, error)
	// Free returns the bytes that an unprivileged process may still write in
	// the file system that holds dir.
	Free(dir string) (uint64, error)
}

// File is an open file. ReadAt may run beside anything; WriteAt, Sync,
// Truncate and Zero are for one goroutine at a time.
type File interface {
	io.ReaderAt
	io.WriterAt
	// Sync makes the written data durable (fdatasync, with the length if it
	// changed). When it fails the process must end: see the package comment.
	Sync() error
	// Size returns the length in bytes.
	Size() (int64, error)
	// Truncate cuts or extends the file; an extension reads as zeros.
	Truncate(size int64) error
	// Zero gives the file exactly size bytes, all zero, allocated, written and
	// synced, and drops them from the page cache. Later writes inside need no
	// metadata, so Sync costs one device write; and the cache holds no large
	// folio in which a small write would count as a megabyte.
	Zero(size int64) error
	// Evict drops what the page cache holds clean, so that the next read comes
	// from the device. Data written but not synced stays. Recovery calls it
	// after Sync: pages that a failed fsync marked clean are then read as the
	// device has them.
	Evict() error
	// Close closes the file without syncing it.
	Close() error
}

// TempSuffix ends the name of every file that WriteFile has not finished. A
// file with it is left over from a crash and holds nothing.
const TempSuffix = ".tmp"

var (
	// ErrLocked says that another process holds the lock.
	ErrLocked = errors.New("locked by another process")
	// ErrPowerOff is what every call on a Mem returns once its power is off.
	ErrPowerOff = errors.New("vfs: power is off")
)

// Join joins path elements with slashes. Unlike path.Join it does not clean:
// a name that is shown to a person stays as that person wrote it.
func Join(dir, name string) string {
	if dir == "" {
		return name
	}
	return strings.TrimRight(dir, "/") + "/" + name
}

// split cuts a name into its folder and the last element.
func split(name string) (dir, base string) {
	i := strings.LastIndexByte(name, '/')
	switch {
	case i < 0:
		return ".", name
	case i == 0:
		return "/", name[1:]
	}
	return name[:i], name[i+1:]
}

// tooLarge is the error of a file that is longer than its reader allows.
func tooLarge(name string, size, limit int64) error {
	return fmt.Errorf("read %s: %d bytes, more than the %d allowed", name, size, limit)
}

// writeFile is WriteFile for every FS.
func writeFile(fsys FS, name string, data []byte) error {
	temp := name + TempSuffix
	_ = fsys.Remove(temp) // left over from a crash; Create says so if it stays
	f, err := fsys.Create(temp)
	if err != nil {
		return err
	}
	if _, err = f.WriteAt(data, 0); err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	if err := fsys.Rename(temp, name); err != nil {
		return err
	}
	dir, _ := split(name)
	return fsys.SyncDir(dir)
}

// readFile is ReadFile for every FS.
func readFile(fsys FS, name string, limit int64) ([]byte, error) {
	f, err := fsys.OpenRead(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	if size > limit {
		return nil, tooLarge(name, size, limit)
	}
	data := make([]byte, size)
	n, err := f.ReadAt(data, 0)
	if err != nil && !(errors.Is(err, io.EOF) && int64(n) == size) {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return data, nil
}
