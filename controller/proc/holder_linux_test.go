package proc

import (
	"errors"
	"net/netip"
	"os"
	"strings"
	"testing"
)

func TestParseStatReadsPastTheProgramName(t *testing.T) {
	short := "42 (a) b (c) Z 1 42 42 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 987654 0 0 18446744073709551615"
	st, err := parseStat([]byte(short))
	if want := (statLine{state: 'Z', started: 987654}); st != want || err != nil {
		t.Errorf("parseStat = %+v, %v", st, err)
	}
	long := short + strings.Repeat(" 0", 26) + " 1792\n"
	st, err = parseStat([]byte(long))
	if want := (statLine{state: 'Z', started: 987654, exit: 7 << 8, hasExit: true}); st != want || err != nil {
		t.Errorf("parseStat = %+v, %v", st, err)
	}
	for _, bad := range []string{"", "42 (a", "42 (a) S 1 2", "42 (a) S 1 42 42 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 x 0",
		short + strings.Repeat(" 0", 26) + " -1"} {
		if _, err := parseStat([]byte(bad)); err == nil {
			t.Errorf("parseStat(%q) gave no error", bad)
		}
	}
}

func TestParseSocket(t *testing.T) {
	l, err := parseSocket("tcp", "   0: 0100007F:238D 00000000:0000 0A 00000000:00000000 00:00000000 00000000  0  0 4711 1 0000 100 0 0 10 0")
	if err != nil || l.addr != netip.MustParseAddrPort("127.0.0.1:9101") || l.inode != "4711" {
		t.Errorf("IPv4: %+v, %v", l, err)
	}
	l, err = parseSocket("tcp", "   1: 00000000000000000000000001000000:1F90 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000  0  0 12 1")
	if err != nil || l.addr != netip.MustParseAddrPort("[::1]:8080") {
		t.Errorf("IPv6: %+v, %v", l, err)
	}
	l, err = parseSocket("udp", "  2: 0100007F:23F1 00000000:0000 07 00000000:00000000 00:00000000 00000000  0  0 4712 2 0000 0")
	if err != nil || l.addr != netip.MustParseAddrPort("127.0.0.1:9201") || l.inode != "4712" {
		t.Errorf("UDP: %+v, %v", l, err)
	}
	for _, bad := range []string{
		"  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode",
		"   0: 0100007F:238D 0100007F:9999 01 00000000:00000000 00:00000000 00000000  0  0 4711 1",
		"   0: 0100007:238D 00000000:0000 0A 00000000:00000000 00:00000000 00000000  0  0 4711 1", "",
	} {
		if l, err := parseSocket("tcp", bad); err == nil {
			t.Errorf("parseSocket(%q) = %+v", bad, l)
		}
	}
}

// A process of one's own is always found, by either network.
func TestTheHolderIsFound(t *testing.T) {
	o := NewOS()
	defer o.Close()
	for network, listen := range taken {
		addr, closer := listen(t)
		defer closer.Close()
		var pe *PortError
		if err := o.CheckPort(network, addr); !errors.As(err, &pe) || pe.PID != os.Getpid() || pe.Command == "" {
			t.Errorf("%s: %v (%+v)", network, err, pe)
		}
	}
}

func TestMeets(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"127.0.0.1", "127.0.0.1", true}, {"0.0.0.0", "127.0.0.1", true}, {"::", "127.0.0.1", true},
		{"::ffff:127.0.0.1", "127.0.0.1", true}, {"127.0.0.2", "127.0.0.1", false},
	} {
		if got := meets(netip.MustParseAddr(c.a), netip.MustParseAddr(c.b)); got != c.want {
			t.Errorf("meets(%s, %s) = %v", c.a, c.b, got)
		}
	}
}
