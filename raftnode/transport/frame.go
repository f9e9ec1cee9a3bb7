package transport

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// A frame is length, checksum, kind, group, payload. The length counts what
// stands behind the checksum; the checksum covers the length too, so that a
// damaged length is found before anything behind it is believed.
const (
	frameHeadBytes = 8                  // length and checksum
	frameMetaBytes = 9                  // kind and group
	MaxFrameBytes  = 64 << 20           // longest length a reader accepts
	maxStepBytes   = 1 << 20            // a reader allocates at most this much, and as much again as has come, ahead of the data
	maxPayload     = MaxFrameBytes - 64 // longest payload a sender builds
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// ErrTooLarge is returned for a message whose frame would be longer than
// MaxFrameBytes. Such a message is dropped and the link goes on.
var ErrTooLarge = errors.New("transport: message is larger than a frame may be")

// FrameError says why the bytes of a link are not a frame. The link is closed:
// what follows them cannot be found.
type FrameError struct{ Reason string }

func (e *FrameError) Error() string { return "transport: bad frame: " + e.Reason }

// appendFrame appends m's frame to b. On an error b is returned as it was.
func appendFrame(b []byte, m *Message) ([]byte, error) {
	start := len(b)
	b = append(b, make([]byte, frameHeadBytes)...)
	b = append(b, byte(m.Kind))
	b = binary.LittleEndian.AppendUint64(b, m.Group)
	if m.Kind == KindRaft {
		var err error
		if b, err = (proto.MarshalOptions{}).MarshalAppend(b, m.Raft); err != nil {
			return b[:start], fmt.Errorf("transport: encode a raft message: %w", err)
		}
	} else {
		b = append(b, m.Body...)
	}
	n := len(b) - start - frameHeadBytes
	if n > maxPayload {
		return b[:start], ErrTooLarge
	}
	binary.LittleEndian.PutUint32(b[start:], uint32(n))
	binary.LittleEndian.PutUint32(b[start+4:], frameSum(b[start:start+4], b[start+frameHeadBytes:]))
	return b, nil
}

func frameSum(length, rest []byte) uint32 {
	return crc32.Update(crc32.Checksum(length, castagnoli), castagnoli, rest)
}

// frameReader reads frames one after the other.
type frameReader struct {
	r   *bufio.Reader
	buf []byte // reused for raft messages, which are copied out by decoding
}

func newFrameReader(r io.Reader) *frameReader {
	return &frameReader{r: bufio.NewReaderSize(r, 64<<10)}
}

// next returns the next message. It returns io.EOF only at the end of a frame.
func (f *frameReader) next() (Message, error) {
	var head [frameHeadBytes]byte
	if _, err := io.ReadFull(f.r, head[:]); err != nil {
		return Message{}, err
	}
	n := int(binary.LittleEndian.Uint32(head[:4]))
	if n < frameMetaBytes || n > MaxFrameBytes {
		return Message{}, &FrameError{fmt.Sprintf("length %d", n)}
	}
	if err := f.fill(n); err != nil {
		return Message{}, err
	}
	if frameSum(head[:4], f.buf) != binary.LittleEndian.Uint32(head[4:]) {
		return Message{}, &FrameError{"checksum"}
	}
	m := Message{Kind: Kind(f.buf[0]), Group: binary.LittleEndian.Uint64(f.buf[1:])}
	payload := f.buf[frameMetaBytes:]
	switch {
	case !m.Kind.valid():
		return Message{}, &FrameError{m.Kind.String()}
	case m.Kind == KindRaft:
		m.Raft = new(raftpb.Message)
		if err := proto.Unmarshal(payload, m.Raft); err != nil {
			return Message{}, &FrameError{"raft message: " + err.Error()}
		}
	default:
		m.Body = append([]byte(nil), payload...)
	}
	if cap(f.buf) > maxStepBytes {
		f.buf = nil
	}
	return m, nil
}

// fill reads n bytes into buf. Memory doubles with the data that has come, so a
// length alone never costs more than maxStepBytes.
func (f *frameReader) fill(n int) error {
	f.buf = f.buf[:0]
	for len(f.buf) < n {
		at, step := len(f.buf), min(n-len(f.buf), maxStepBytes)
		if cap(f.buf)-at < step {
			grown := make([]byte, at, min(n, 2*at+step))
			copy(grown, f.buf)
			f.buf = grown
		}
		f.buf = f.buf[:at+step]
		if _, err := io.ReadFull(f.r, f.buf[at:]); err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
	}
	return nil
}
