package proc

import (
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"syscall"
)

// Browse asks the desktop to show a URL in the user's browser and returns
// without waiting for it. The error says what is missing.
func Browse(url string) error {
	opener := "xdg-open"
	if runtime.GOOS == "darwin" {
		opener = "open"
	}
	path, err := exec.LookPath(opener)
	if errors.Is(err, exec.ErrNotFound) {
		return fmt.Errorf("no browser can be opened here (there is no %s)", opener)
	}
	if err != nil {
		return fmt.Errorf("find %s: %w", opener, err)
	}
	cmd := exec.Command(path, url)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // Ctrl-C is not for the browser
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("open a browser: %w", err)
	}
	return cmd.Process.Release()
}
