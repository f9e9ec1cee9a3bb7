package transport

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
)

// A connection begins with the dialler's greeting and the acceptor's answer;
// after that only the dialler speaks.
const (
	greetMagic      = "Rwib" // the first byte tells the peer port whose connection it is
	answerMagic     = "rwib"
	version         = 2
	greetHeadBytes  = 4 + 2 + 2 + 8 + 8 + 8 // magic, version, length of the cluster's id, from, to, incarnation
	answerBytes     = 4 + 2 + 2 + 8 + 4     // magic, version, verdict, incarnation, checksum
	maxClusterBytes = 64
)

// verdict is the acceptor's answer to a greeting.
type verdict uint16

const (
	welcome verdict = iota
	otherVersion
	otherCluster
	otherNode
	unknownPeer
	oldIncarnation
)

func (v verdict) String() string {
	switch v {
	case welcome:
		return "welcome"
	case otherVersion:
		return "it speaks another version of the peer protocol: run the same program on both nodes"
	case otherCluster:
		return "it belongs to another cluster: check the peer addresses"
	case otherNode:
		return "it is another node than expected: check the peer addresses"
	case unknownPeer:
		return "it does not know this node as a peer"
	case oldIncarnation:
		return "it has seen a later start of this node: only one process may run per node"
	}
	return fmt.Sprintf("refused with code %d", uint16(v))
}

// RefusedError says that a peer, or this node, refused a connection, and why.
type RefusedError struct {
	Peer   uint64
	Reason string
}

func (e *RefusedError) Error() string {
	return fmt.Sprintf("transport: connection with node %d refused: %s", e.Peer, e.Reason)
}

// greeting is what a dialler says of itself and of whom it expects.
type greeting struct {
	version     uint16
	from, to    uint64
	incarnation uint64
	cluster     string
}

func (g *greeting) append(b []byte) []byte {
	start := len(b)
	b = append(b, greetMagic...)
	b = binary.LittleEndian.AppendUint16(b, g.version)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(g.cluster)))
	b = binary.LittleEndian.AppendUint64(b, g.from)
	b = binary.LittleEndian.AppendUint64(b, g.to)
	b = binary.LittleEndian.AppendUint64(b, g.incarnation)
	b = append(b, g.cluster...)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b[start:], castagnoli))
}

// readGreeting reads exactly one greeting.
func readGreeting(r io.Reader) (greeting, error) {
	b := make([]byte, greetHeadBytes, greetHeadBytes+maxClusterBytes+4)
	if _, err := io.ReadFull(r, b); err != nil {
		return greeting{}, fmt.Errorf("transport: read a greeting: %w", err)
	}
	if string(b[:4]) != greetMagic {
		return greeting{}, &FrameError{"a greeting of another protocol"}
	}
	n := int(binary.LittleEndian.Uint16(b[6:]))
	if n > maxClusterBytes {
		return greeting{}, &FrameError{fmt.Sprintf("a cluster id of %d bytes", n)}
	}
	b = b[:greetHeadBytes+n+4]
	if _, err := io.ReadFull(r, b[greetHeadBytes:]); err != nil {
		return greeting{}, fmt.Errorf("transport: read a greeting: %w", err)
	}
	end := greetHeadBytes + n
	if crc32.Checksum(b[:end], castagnoli) != binary.LittleEndian.Uint32(b[end:]) {
		return greeting{}, &FrameError{"the checksum of a greeting"}
	}
	return greeting{
		version: binary.LittleEndian.Uint16(b[4:]), cluster: string(b[greetHeadBytes:end]),
		from: binary.LittleEndian.Uint64(b[8:]), to: binary.LittleEndian.Uint64(b[16:]), incarnation: binary.LittleEndian.Uint64(b[24:]),
	}, nil
}

func appendAnswer(b []byte, v verdict, incarnation uint64) []byte {
	start := len(b)
	b = append(b, answerMagic...)
	b = binary.LittleEndian.AppendUint16(b, version)
	b = binary.LittleEndian.AppendUint16(b, uint16(v))
	b = binary.LittleEndian.AppendUint64(b, incarnation)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b[start:], castagnoli))
}

func readAnswer(r io.Reader) (verdict, uint64, error) {
	var b [answerBytes]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return 0, 0, fmt.Errorf("transport: read the answer to a greeting: %w", err)
	}
	if string(b[:4]) != answerMagic {
		return 0, 0, &FrameError{"an answer of another protocol"}
	}
	if crc32.Checksum(b[:answerBytes-4], castagnoli) != binary.LittleEndian.Uint32(b[answerBytes-4:]) {
		return 0, 0, &FrameError{"the checksum of an answer"}
	}
	return verdict(binary.LittleEndian.Uint16(b[6:])), binary.LittleEndian.Uint64(b[8:]), nil
}
