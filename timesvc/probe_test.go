package timesvc

import (
	"bytes"
	"encoding/hex"
	"math/rand/v2"
	"strings"
	"testing"
)

func testKey(cluster string) []byte {
	return bytes.Repeat([]byte(cluster), 32/len(cluster)+1)[:32]
}

func testCodec(cluster string) *probeCodec { return newProbeCodec(testKey(cluster)) }

// The bytes of docs/format/probe.md.
func TestGoldenProbe(t *testing.T) {
	c := testCodec("demo")
	p := probe{kind: probeAnswer, flags: flagSynchronised | flagTestClock, epoch: 2, from: 1, to: 3, incarnation: 7, nonce: 0x1122334455667788,
		received: 1795341600123456789, sent: 1795341600123460000, eps: -1, lamport: 991}
	got := c.seal(nil, &p)
	want := strings.Join([]string{
		"50010205", "02000000", "0100000000000000", "0300000000000000", "0700000000000000", "8877665544332211",
		"150dd755ac55ea18", "a019d755ac55ea18", "ffffffffffffffff", "df03000000000000", "0000000000000000",
	}, "")
	if h := hex.EncodeToString(got); len(got) != ProbeBytes || !strings.HasPrefix(h, want) {
		t.Fatalf("got  %s\nwant %s…", h, want)
	}
	if back, err := c.open(got); err != nil || back != p {
		t.Fatalf("%+v, %v", back, err)
	}
}

func randomProbe(rng *rand.Rand) probe {
	return probe{kind: uint8(1 + rng.IntN(2)), flags: uint8(rng.IntN(knownFlags + 1)), epoch: rng.Uint32(), from: rng.Uint64(), to: rng.Uint64(),
		incarnation: rng.Uint64(), nonce: rng.Uint64(), received: int64(rng.Uint64()), sent: int64(rng.Uint64()), eps: int64(rng.Uint64()), lamport: rng.Uint64()}
}

// TestProbesAreAuthentic: what another cluster made, or anybody changed, is not
// a probe.
func TestProbesAreAuthentic(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 34))
	ours, theirs := testCodec("demo"), testCodec("other")
	for range 2000 {
		p := randomProbe(rng)
		b := ours.seal(nil, &p)
		if back, err := ours.open(b); err != nil || back != p {
			t.Fatalf("%+v came back as %+v, %v", p, back, err)
		}
		if _, err := theirs.open(b); err == nil {
			t.Fatal("another cluster takes it")
		}
		b[rng.IntN(len(b))] ^= 1 << rng.IntN(8)
		if back, err := ours.open(b); err == nil {
			t.Fatalf("a changed probe is taken: %+v", back)
		}
		if _, err := ours.open(b[:rng.IntN(len(b))]); err == nil {
			t.Fatal("a part of a probe is taken")
		}
	}
}

func FuzzProbe(f *testing.F) {
	c := testCodec("demo")
	rng := rand.New(rand.NewPCG(2, 34))
	for range 4 {
		p := randomProbe(rng)
		f.Add(c.seal(nil, &p))
	}
	f.Add([]byte{})
	f.Add([]byte("P"))
	f.Fuzz(func(t *testing.T, b []byte) {
		// As it comes, and as if whoever sent it had the key.
		for _, b := range [][]byte{b, resealed(c, b)} {
			p, err := c.open(b)
			if err != nil {
				continue
			}
			if again := c.seal(nil, &p); !bytes.Equal(again, b) {
				t.Fatalf("%x reads as %+v, which is %x", b, p, again)
			}
		}
	})
}

func resealed(c *probeCodec, b []byte) []byte {
	if len(b) < ProbeBytes-probeMAC {
		return b
	}
	b = bytes.Clone(b[:ProbeBytes-probeMAC])
	return append(b, c.code(b)...)
}
