//go:build !linux

package timesvc

import (
	"errors"
	"syscall"
	"time"
)

func stampArrivals(syscall.RawConn) error { return errors.ErrUnsupported }

func arrivalStamp([]byte) (time.Duration, bool) { return 0, false }
