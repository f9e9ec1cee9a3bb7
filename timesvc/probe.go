package timesvc

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"hash"
)

// ProbeByte is the first byte of every probe: what is on the peer port is told
// apart by it.
const ProbeByte = 'P'

// ProbeBytes is the size of every probe, question or answer: an answer is never
// larger than what asked for it.
const ProbeBytes = 96

const (
	probeVersion = 1
	probeMAC     = 16 // the first bytes of HMAC-SHA256
)

// Kinds of probes.
const (
	probeQuestion = 1
	probeAnswer   = 2
)

// Bits of a probe's flags.
const (
	flagSynchronised = 1 << iota
	flagHoldover
	flagTestClock
	knownFlags = 1<<iota - 1
)

// probe is a packet that compares two clocks. The layout is docs/format/probe.md.
type probe struct {
	kind, flags uint8
	from, to    uint64 // raft ids
	incarnation uint64 // of the sender: with epoch, which clock the stamps are of
	epoch       uint32
	nonce       uint64 // of the question, repeated by its answer
	received    int64  // of an answer: T2
	sent        int64  // of an answer: T3
	eps         int64  // of the sender's reference time, microseconds; -1 unsynchronised
	lamport     uint64 // of the sender
}

// Errors of a probe that is not taken.
var (
	errProbeMalformed = errors.New("timesvc: not a probe")
	errProbeForeign   = errors.New("timesvc: probe is not authentic")
)

// probeCodec seals and opens probes with one key. It has one owner.
type probeCodec struct {
	mac hash.Hash
	sum []byte
}

func newProbeCodec(key []byte) *probeCodec { return &probeCodec{mac: hmac.New(sha256.New, key)} }

// seal appends the packet to dst.
func (c *probeCodec) seal(dst []byte, p *probe) []byte {
	at := len(dst)
	dst = append(dst, ProbeByte, probeVersion, p.kind, p.flags)
	dst = binary.LittleEndian.AppendUint32(dst, p.epoch)
	for _, v := range [...]uint64{p.from, p.to, p.incarnation, p.nonce, uint64(p.received), uint64(p.sent), uint64(p.eps), p.lamport} {
		dst = binary.LittleEndian.AppendUint64(dst, v)
	}
	dst = binary.LittleEndian.AppendUint64(dst, 0)
	return append(dst, c.code(dst[at:])...)
}

func (c *probeCodec) code(b []byte) []byte {
	c.mac.Reset()
	c.mac.Write(b)
	c.sum = c.mac.Sum(c.sum[:0])
	return c.sum[:probeMAC]
}

// open reads a packet and checks that it comes from the cluster.
func (c *probeCodec) open(b []byte) (p probe, err error) {
	if len(b) != ProbeBytes || b[0] != ProbeByte || b[1] != probeVersion {
		return p, errProbeMalformed
	}
	body := b[:ProbeBytes-probeMAC]
	if !hmac.Equal(c.code(body), b[len(body):]) {
		return p, errProbeForeign
	}
	u := func(i int) uint64 { return binary.LittleEndian.Uint64(b[8+8*i:]) }
	p = probe{
		kind: b[2], flags: b[3], epoch: binary.LittleEndian.Uint32(b[4:]),
		from: u(0), to: u(1), incarnation: u(2), nonce: u(3),
		received: int64(u(4)), sent: int64(u(5)), eps: int64(u(6)), lamport: u(7),
	}
	if p.kind != probeQuestion && p.kind != probeAnswer || p.flags&^knownFlags != 0 || u(8) != 0 {
		return p, errProbeMalformed
	}
	return p, nil
}
