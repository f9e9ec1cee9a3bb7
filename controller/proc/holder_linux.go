package proc

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// holder finds who listens on a TCP or UDP address or on its port at every
// address. It returns 0 when that cannot be seen, as with another user's process.
func holder(network, addr string) (pid int, command string) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return 0, ""
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return 0, ""
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		ip = netip.IPv4Unspecified() // a name: whoever has the port is likely enough
	}
	sockets := make(map[string]bool)
	for _, table := range []string{"/proc/net/" + network, "/proc/net/" + network + "6"} {
		f, err := os.Open(table)
		if err != nil {
			continue
		}
		lines := bufio.NewScanner(f)
		for lines.Scan() {
			l, err := parseSocket(network, lines.Text())
			if err == nil && l.addr.Port() == uint16(n) && meets(l.addr.Addr(), ip) {
				sockets["socket:["+l.inode+"]"] = true
			}
		}
		_ = f.Close()
	}
	if len(sockets) == 0 {
		return 0, ""
	}
	fds, _ := filepath.Glob("/proc/[0-9]*/fd/*")
	for _, fd := range fds {
		target, err := os.Readlink(fd)
		if err != nil || !sockets[target] {
			continue
		}
		pid, _ = strconv.Atoi(strings.Split(fd, "/")[2])
		comm, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/comm")
		return pid, strings.TrimSpace(string(comm))
	}
	return 0, ""
}

// meets says whether a listener on one address is in the way of one on the other.
func meets(a, b netip.Addr) bool {
	a, b = a.Unmap(), b.Unmap()
	return a == b || a.IsUnspecified() || b.IsUnspecified()
}

// listener is a socket of /proc/net/tcp that listens, or one of /proc/net/udp.
type listener struct {
	addr  netip.AddrPort
	inode string
}

var errNotListening = errors.New("no listening socket")

// parseSocket reads a line of /proc/net/tcp, tcp6, udp or udp6:
//
//	0: 0100007F:2383 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 4711 …
//
// A UDP socket has its port to itself in any state.
func parseSocket(network, line string) (listener, error) {
	f := strings.Fields(line)
	const listening = "0A"
	if len(f) < 10 || network == "tcp" && f[3] != listening {
		return listener{}, errNotListening
	}
	host, port, ok := strings.Cut(f[1], ":")
	if !ok {
		return listener{}, errNotListening
	}
	raw, err := hex.DecodeString(host)
	if err != nil || len(raw)%4 != 0 {
		return listener{}, errNotListening
	}
	// Each group of four bytes is in the machine's order, which every
	// architecture that we build for has as little endian.
	for i := 0; i < len(raw); i += 4 {
		binary.BigEndian.PutUint32(raw[i:], binary.LittleEndian.Uint32(raw[i:]))
	}
	ip, ok := netip.AddrFromSlice(raw)
	if !ok {
		return listener{}, errNotListening
	}
	n, err := strconv.ParseUint(port, 16, 16)
	if err != nil {
		return listener{}, err
	}
	return listener{addr: netip.AddrPortFrom(ip, uint16(n)), inode: f[9]}, nil
}
