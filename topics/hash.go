package topics

import (
	"crypto/sha256"
	"encoding/binary"
)

// HashID returns the hash under which a partition remembers a message's id. The
// topic and the partition are part of it, so ids of different partitions never
// meet.
func HashID(s Stream, id string) Hash {
	b := make([]byte, 0, 13+256)
	b = append(b, 'i')
	b = binary.LittleEndian.AppendUint64(b, s.UID)
	b = binary.LittleEndian.AppendUint32(b, s.Partition)
	b = append(b, id...)
	sum := sha256.Sum256(b)
	return Hash(sum[:16])
}

// HashProducer returns the hash under which a producer's name is known.
func HashProducer(name string) Hash {
	b := make([]byte, 0, 1+256)
	b = append(append(b, 'p'), name...)
	sum := sha256.Sum256(b)
	return Hash(sum[:16])
}
