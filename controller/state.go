package controller

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/wiber/wiber/timesvc"
)

// lockInfo is what the holder of a state folder writes into its lock file.
type lockInfo struct {
	PID    int    `json:"pid"`
	Listen string `json:"listen"`
}

const (
	// lockPatience is how long the lock of a controller that is dead is waited for:
	// a process that it was about to start has its open files for a moment.
	lockPatience = 5 * time.Second
	lockRetry    = 20 * time.Millisecond
)

// lockState locks the state folder for this process. The lock goes with the
// file, and with the process. The lock of a process that gone says is dead is
// waited for.
func lockState(ctx context.Context, clock timesvc.Clock, dir string, info lockInfo, gone func(pid int) bool) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("controller: make the state folder: %w; choose another one with --state", err)
	}
	path := filepath.Join(dir, "lock")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("controller: open the state folder's lock: %w; choose another state folder with --state", err)
	}
	for began := clock.Mono(); ; {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			break
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, errors.Join(fmt.Errorf("controller: lock %s: %w", path, err), f.Close())
		}
		holder := holderOf(f)
		if holder.PID != 0 && gone(holder.PID) && clock.Mono()-began < lockPatience && pause(ctx, clock, lockRetry) {
			continue
		}
		defer f.Close()
		if holder.PID != 0 {
			return nil, fmt.Errorf("controller: the state folder %s is in use by the controller with pid %d on %s: use that one, end it with wiberctl down, or choose another folder with --state",
				dir, holder.PID, holder.Listen)
		}
		return nil, fmt.Errorf("controller: the state folder %s is in use by another controller: end it with wiberctl down, or choose another folder with --state", dir)
	}
	b, err := json.Marshal(info)
	if err == nil {
		err = f.Truncate(0)
	}
	if err == nil {
		_, err = f.WriteAt(b, 0)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("controller: write %s: %w", path, err), f.Close())
	}
	return f, nil
}

// holderOf reads who wrote the lock file; empty if nobody can tell.
func holderOf(f *os.File) (holder lockInfo) {
	b := make([]byte, 1<<10)
	n, _ := f.ReadAt(b, 0)
	if json.Unmarshal(b[:n], &holder) != nil {
		return lockInfo{}
	}
	return holder
}

// pause waits, and reports whether ctx lives on.
func pause(ctx context.Context, clock timesvc.Clock, d time.Duration) bool {
	timer := clock.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C():
		return true
	case <-ctx.Done():
		return false
	}
}

// install copies the executable to bin/<hash> in the state folder and returns
// the copy's path. Copies of other programs are removed; a process that runs
// from one is not disturbed by that.
func install(executable, state string) (string, error) {
	bin := filepath.Join(state, "bin")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		return "", err
	}
	src, err := os.Open(executable)
	if err != nil {
		return "", err
	}
	defer src.Close()
	tmp, err := os.CreateTemp(bin, ".new-*")
	if err != nil {
		return "", err
	}
	defer os.Remove(tmp.Name())
	sum := sha256.New()
	_, err = io.Copy(io.MultiWriter(tmp, sum), src)
	err = errors.Join(err, tmp.Chmod(0o755), tmp.Close())
	if err != nil {
		return "", err
	}
	path := filepath.Join(bin, hex.EncodeToString(sum.Sum(nil)[:8]))
	if err := os.Rename(tmp.Name(), path); err != nil {
		return "", err
	}
	old, err := os.ReadDir(bin)
	if err != nil {
		return "", err
	}
	for _, e := range old {
		if other := filepath.Join(bin, e.Name()); other != path {
			if err := os.Remove(other); err != nil && !errors.Is(err, os.ErrNotExist) {
				return "", err
			}
		}
	}
	return path, nil
}

// writeFile replaces a file by one that is complete.
func writeFile(path string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(data)
	if err := errors.Join(err, tmp.Chmod(0o644), tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}
