package timesvc

import (
	"net"
	"net/netip"
	"runtime"
	"testing"
	"time"
)

// A packet came after it was sent and before it was read, by whatever clock; the
// kernel's stamp, where there is one, is of the moment it came.
func TestArrivals(t *testing.T) {
	for name, skew := range map[string]Skew{
		"true":     {},
		"drifting": {Shift: time.Hour, DriftPPM: -50_000},
		"strobed":  {Strobe: 3 * time.Second, StrobeHz: 1000},
	} {
		t.Run(name, func(t *testing.T) {
			clock := NewSystem(skew)
			a, conn := openArrivals(t, clock)
			buf, oob := make([]byte, 64), make([]byte, ArrivalBytes)
			early := 0
			for range 200 {
				sent, _ := clock.Raw()
				if _, err := conn.WriteToUDPAddrPort([]byte("P"), conn.LocalAddr().(*net.UDPAddr).AddrPort()); err != nil {
					t.Fatal(err)
				}
				for w := sent; w < sent+200*time.Microsecond; w, _ = clock.Raw() {
				} // the packet has come and waits
				waited, _ := clock.Raw()
				_, on, _, _, err := conn.ReadMsgUDPAddrPort(buf, oob)
				if err != nil {
					t.Fatal(err)
				}
				at := a.At(oob[:on])
				read, _ := clock.Raw()
				if at < sent-granularity || at > read {
					t.Fatalf("it came at %v, was sent at %v and read at %v", at, sent, read)
				}
				if at < waited {
					early++
				}
			}
			if a.Kernel() && early < 100 {
				t.Fatalf("only %d of 200 packets have the kernel's stamp", early)
			}
			if runtime.GOOS == "linux" && !a.Kernel() {
				t.Fatal("this kernel does not stamp packets")
			}
		})
	}
}

// Without the kernel's help a packet came when it was read.
func TestArrivalsWithoutStamps(t *testing.T) {
	v := NewVirtual(epoch)
	a, _ := openArrivals(t, v.Node(Skew{}))
	v.Advance(time.Second)
	if a.Kernel() || a.At(nil) != time.Second {
		t.Fatalf("kernel %t, at %v", a.Kernel(), a.At(nil))
	}
	b, _ := openArrivals(t, NewSystem(Skew{}))
	for _, oob := range [][]byte{nil, {1, 2, 3}, make([]byte, ArrivalBytes)} {
		before, _ := b.clock.Raw()
		if at := b.At(oob); at < before {
			t.Fatalf("%x came at %v, before %v", oob, at, before)
		}
	}
}

func openArrivals(t *testing.T, clock Clock) (*Arrivals, *net.UDPConn) {
	t.Helper()
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:0")))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	socket, err := conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	return NewArrivals(clock, socket), conn
}

// TestRawNoticesSleep: the monotonic clock stood still while the wall clock and
// the boot clock went on. The wall clock alone says nothing.
func TestRawNoticesSleep(t *testing.T) {
	c := NewSystem(Skew{})
	if _, epoch := c.Raw(); epoch != 0 {
		t.Fatalf("epoch %d at the start", epoch)
	}
	c.wall += time.Hour // as after the wall clock was set
	if _, epoch := c.Raw(); epoch != 0 {
		t.Fatal("setting the wall clock counts as a sleep")
	}
	if runtime.GOOS != "linux" {
		return // the sleep is not noticed there
	}
	before, _ := c.Raw()
	c.wall -= time.Minute
	c.most -= time.Minute // as after a minute's sleep
	after, epoch := c.Raw()
	if epoch != 1 || after-before < time.Minute || after-before > 2*time.Minute {
		t.Fatalf("epoch %d, the time went on by %v", epoch, after-before)
	}
	if _, epoch = c.Raw(); epoch != 1 {
		t.Fatalf("epoch %d: one sleep counts twice", epoch)
	}
}
