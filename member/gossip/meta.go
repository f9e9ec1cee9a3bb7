package gossip

import (
	"encoding/binary"
	"errors"
	"slices"
)

// Meta is what a node says of itself.
type Meta struct {
	Beat        uint64 // rises with each Meta of one incarnation
	Incarnation uint64 // starts of the node's folder
	Leaving     bool   // it stops now
	Leader      bool   // it leads some group
	// Leads are groups that it leads: 0 the catalogue, s + 1 data shard s. If they
	// are too many for a packet, only the first ones.
	Leads []uint32
	// Where clients and browsers reach it. A host that is too long is left out.
	Host                 string
	ClientPort, HTTPPort uint16
	CPUMillis            uint32 // CPU time that it used in the last second or so, per second
	Clock                ClockReading
}

// ClockReading is what a node thinks of its clock against the cluster's reference
// time.
type ClockReading struct {
	Known        bool
	OffsetMicros int64
	EpsMicros    int64 // -1: not synchronised
}

// MetaBytes bounds an encoded Meta: memberlist carries no more.
const MetaBytes = 512

const (
	metaVersion  = 1
	maxHostBytes = 128
	maxLeads     = 64

	flagLeaving = 1
	flagLeader  = 2
	flagClock   = 4
	knownFlags  = flagLeaving | flagLeader | flagClock
)

var errMeta = errors.New("gossip: malformed metadata")

// encode returns m in at most MetaBytes; docs/format/gossip.md has the table.
func (m *Meta) encode() []byte {
	var flags byte
	for _, f := range []struct {
		set bool
		bit byte
	}{{m.Leaving, flagLeaving}, {m.Leader, flagLeader}, {m.Clock.Known, flagClock}} {
		if f.set {
			flags |= f.bit
		}
	}
	b := []byte{metaVersion, flags}
	b = binary.LittleEndian.AppendUint64(b, m.Beat)
	b = binary.LittleEndian.AppendUint64(b, m.Incarnation)
	b = binary.LittleEndian.AppendUint32(b, m.CPUMillis)
	b = binary.LittleEndian.AppendUint16(b, m.ClientPort)
	b = binary.LittleEndian.AppendUint16(b, m.HTTPPort)
	if m.Clock.Known {
		b = binary.LittleEndian.AppendUint64(b, uint64(m.Clock.OffsetMicros))
		b = binary.LittleEndian.AppendUint64(b, uint64(m.Clock.EpsMicros))
	}
	host := m.Host
	if len(host) > maxHostBytes {
		host = ""
	}
	b = append(b, byte(len(host)))
	b = append(b, host...)
	leads := m.Leads[:min(len(m.Leads), maxLeads)]
	b = append(b, byte(len(leads)))
	for _, g := range leads {
		b = binary.LittleEndian.AppendUint32(b, g)
	}
	return b
}

// decodeMeta reads what encode made. Bytes behind it are those of a later version,
// and passed over.
func decodeMeta(b []byte) (m Meta, err error) {
	if len(b) > MetaBytes {
		return Meta{}, errMeta
	}
	take := func(n int) []byte {
		if err != nil || len(b) < n {
			err = errMeta
			return make([]byte, 8)
		}
		got := b[:n]
		b = b[n:]
		return got
	}
	head := take(2)
	if err == nil && (head[0] < metaVersion || head[0] == metaVersion && head[1]&^knownFlags != 0) {
		return Meta{}, errMeta
	}
	m.Leaving, m.Leader, m.Clock.Known = head[1]&flagLeaving != 0, head[1]&flagLeader != 0, head[1]&flagClock != 0
	m.Beat = binary.LittleEndian.Uint64(take(8))
	m.Incarnation = binary.LittleEndian.Uint64(take(8))
	m.CPUMillis = binary.LittleEndian.Uint32(take(4))
	m.ClientPort = binary.LittleEndian.Uint16(take(2))
	m.HTTPPort = binary.LittleEndian.Uint16(take(2))
	if m.Clock.Known {
		m.Clock.OffsetMicros = int64(binary.LittleEndian.Uint64(take(8)))
		m.Clock.EpsMicros = int64(binary.LittleEndian.Uint64(take(8)))
	}
	n := int(take(1)[0])
	if n > maxHostBytes {
		return Meta{}, errMeta
	}
	if n > 0 {
		m.Host = string(take(n))
	}
	if n = int(take(1)[0]); n > maxLeads {
		return Meta{}, errMeta
	}
	for range n {
		if m.Leads = append(m.Leads, binary.LittleEndian.Uint32(take(4))); err != nil {
			break
		}
	}
	if err != nil {
		return Meta{}, err
	}
	return m, nil
}

// olderThan says that a node said m before it said o.
func (m *Meta) olderThan(o *Meta) bool {
	if m.Incarnation != o.Incarnation {
		return m.Incarnation < o.Incarnation
	}
	return m.Beat < o.Beat
}

// clone returns a copy that shares nothing with m.
func (m Meta) clone() Meta {
	m.Leads = slices.Clone(m.Leads)
	return m
}
