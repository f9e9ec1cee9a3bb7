package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/wiber/wiber/controller/proc"
)

// startTimeout is how long a controller that was started in the background may
// take until it answers.
const startTimeout = 15 * time.Second

// presence is what a look at the controller's address found.
type presence int

const (
	nobody       presence = iota // nothing listens there
	isController                 // a controller answers
	stranger                     // another program answers
)

// look finds out who listens at the server's address.
func (s *server) look(ctx context.Context) (presence, error) {
	limited, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(limited, http.MethodGet, s.base+"/healthz", nil)
	if err != nil {
		return nobody, fmt.Errorf("--server %s: %w", s.base, err)
	}
	resp, err := s.http.Do(req)
	switch {
	case ctx.Err() != nil:
		return nobody, context.Cause(ctx)
	case errors.Is(err, syscall.ECONNREFUSED):
		return nobody, nil
	case err != nil && isDialError(err):
		return nobody, &unreachableError{s.base, err}
	case err != nil:
		return stranger, nil
	}
	resp.Body.Close()
	if strings.HasPrefix(resp.Header.Get("Server"), "wiber-controller") {
		return isController, nil
	}
	return stranger, nil
}

func isDialError(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}

// strangerError says that the address belongs to another program, and the way
// out.
func strangerError(base string) error {
	return fmt.Errorf(`another program, not a Wiber controller, listens at %s
Choose another port: set GATEWAY_PORT, as in GATEWAY_PORT=8090, or give --listen 127.0.0.1:8090 to "up" or "controller" and --server http://127.0.0.1:8090 to the others`, base)
}

// ensureController starts a controller in the background if none answers at
// the default address of this machine.
func (a *app) ensureController(ctx context.Context, s *server) error {
	who, err := s.look(ctx)
	switch {
	case err != nil:
		return err
	case who == stranger:
		return strangerError(s.base)
	case who == isController || !a.settings.ServerIsDefault():
		return nil // a refusal of the address that was named is the caller's to report
	}
	base, err := url.Parse(s.base)
	if err != nil {
		return err
	}
	executable, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program to start a controller: %w", err)
	}
	state, err := filepath.Abs(a.settings.State)
	if err != nil {
		return err
	}
	logFile := filepath.Join(state, "controller.log")
	pid, err := proc.StartDetached(proc.Spec{
		Executable: executable,
		Args:       []string{"controller", "--listen", base.Host, "--state", state},
		LogFile:    logFile,
	})
	if errors.Is(err, proc.ErrLogInUse) {
		return fmt.Errorf("start a controller: the one that uses the state folder %s is not at %s: say where it is with --server, or choose another folder with WIBER_STATE", state, s.base)
	}
	if err != nil {
		return fmt.Errorf("start a controller: %w", err)
	}
	limited, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for {
		if who, _ := s.look(limited); who == isController {
			_, err := fmt.Fprintf(a.stderr, "started a controller in the background: pid %d, %s, output in %s\n", pid, s.base, logFile)
			return err
		}
		if s.pause(limited, retryEvery) != nil {
			return fmt.Errorf("the controller that was started (pid %d) does not answer at %s; its output is in %s", pid, s.base, logFile)
		}
	}
}
