package proc

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// KeptLogs and KeptLogBytes bound the logs of earlier incarnations that OpenLog
// keeps. The newest of them stays whatever its size.
const (
	KeptLogs     = 20
	KeptLogBytes = 64 << 20
)

// ErrLogInUse means that a process which was started with a log, or opened it
// with OpenLog, still lives.
var ErrLogInUse = errors.New("a process that was started before still writes to it")

// OpenLog opens a new, empty append file of that name and makes its folder.
// A file that is there already and holds something is renamed before:
// console.log becomes console.1.log, the next one console.2.log; the highest
// number is the newest. Only the newest KeptLogs of them stay, and of those no
// more than hold KeptLogBytes together.
//
// The file is locked (flock) for as long as it is open here or in a process that
// has it as its output, so from before that process exists until it has ended.
// While one lives, OpenLog fails with ErrLogInUse and changes nothing: whoever
// died between starting a process and writing down its pid cannot be followed by
// a second process.
func OpenLog(path string) (*os.File, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	f, err := openLocked(path)
	if err != nil {
		return nil, err
	}
	st, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if st.Size() == 0 {
		return f, nil
	}
	err = setAside(path)
	if cerr := f.Close(); err != nil || cerr != nil {
		return nil, errors.Join(err, cerr)
	}
	return openLocked(path)
}

func openLocked(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		if errors.Is(err, syscall.EWOULDBLOCK) {
			err = ErrLogInUse
		}
		return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), f.Close())
	}
	return f, nil
}

// LogFiles returns the logs of a node's incarnations that are there, the newest
// first. path is the name that OpenLog was given; its file comes first.
func LogFiles(path string) ([]string, error) {
	old, err := oldLogs(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	var files []string
	if _, err := os.Stat(path); err == nil {
		files = append(files, path)
	}
	for _, n := range slices.Backward(old) {
		files = append(files, numbered(path, n))
	}
	return files, nil
}

// setAside renames a log to the next number and removes the oldest ones.
func setAside(path string) error {
	old, err := oldLogs(path)
	if err != nil {
		return err
	}
	next := 1
	if n := len(old); n > 0 {
		next = old[n-1] + 1
	}
	if err := os.Rename(path, numbered(path, next)); err != nil {
		return err
	}
	var bytes int64
	for i, n := range slices.Backward(append(old, next)) {
		st, err := os.Stat(numbered(path, n))
		if err != nil {
			return err
		}
		bytes += st.Size()
		if kept := len(old) - i; kept > 0 && (kept >= KeptLogs || bytes > KeptLogBytes) {
			if err := os.Remove(numbered(path, n)); err != nil {
				return err
			}
		}
	}
	return nil
}

// oldLogs returns the numbers of the logs that were set aside, rising.
func oldLogs(path string) ([]int, error) {
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	ext := filepath.Ext(path)
	stem := strings.TrimSuffix(filepath.Base(path), ext) + "."
	var numbers []int
	for _, e := range entries {
		mid, ok := strings.CutPrefix(e.Name(), stem)
		if !ok {
			continue
		}
		mid, ok = strings.CutSuffix(mid, ext)
		if !ok {
			continue
		}
		if n, err := strconv.Atoi(mid); err == nil && n > 0 && strconv.Itoa(n) == mid {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	return numbers, nil
}

// numbered returns the name of a log that was set aside: console.3.log.
func numbered(path string, n int) string {
	ext := filepath.Ext(path)
	return fmt.Sprintf("%s.%d%s", strings.TrimSuffix(path, ext), n, ext)
}
