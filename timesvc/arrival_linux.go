package timesvc

import (
	"encoding/binary"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// stampArrivals asks the kernel to stamp what comes on a socket.
func stampArrivals(socket syscall.RawConn) error {
	var set error
	if err := socket.Control(func(fd uintptr) {
		set = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1)
	}); err != nil {
		return err
	}
	return set
}

// arrivalStamp finds the kernel's stamp in a packet's control messages: the wall
// clock, since 1970.
func arrivalStamp(oob []byte) (time.Duration, bool) {
	for len(oob) >= unix.SizeofCmsghdr {
		h, data, rest, err := unix.ParseOneSocketControlMessage(oob)
		if err != nil {
			return 0, false
		}
		if h.Level == unix.SOL_SOCKET && h.Type == unix.SCM_TIMESTAMPNS && len(data) >= 16 {
			sec, nsec := binary.NativeEndian.Uint64(data), binary.NativeEndian.Uint64(data[8:])
			return time.Duration(sec)*time.Second + time.Duration(nsec), true
		}
		oob = rest
	}
	return 0, false
}
