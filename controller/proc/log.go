package proc

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// KeptLogs is how many logs of earlier incarnations OpenLog keeps.
const KeptLogs = 20

// OpenLog opens a new, empty append file of that name and makes its folder.
// A file that is there already and holds something is renamed before:
// console.log becomes console.1.log, the next one console.2.log; the highest
// number is the newest. Only the newest KeptLogs of them stay.
func OpenLog(path string) (*os.File, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	if st, err := os.Stat(path); err == nil && st.Size() > 0 {
		if err := setAside(path); err != nil {
			return nil, err
		}
	}
	return os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
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
	for _, n := range old[:max(0, len(old)+1-KeptLogs)] {
		if err := os.Remove(numbered(path, n)); err != nil {
			return err
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
