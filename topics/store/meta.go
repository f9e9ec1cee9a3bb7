package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"maps"
	"slices"
)

// MetaStore holds a node's identity and its checkpoint manifest: a few small
// values that change together. Bolt is the real one; Mem, with the same
// promises, is for simulation, because bbolt maps a real file into memory.
//
// Methods may be called concurrently.
type MetaStore interface {
	// Get returns the value of key, or nil when there is none. The caller owns
	// the slice.
	Get(key string) ([]byte, error)
	// Update puts all values, and deletes the keys whose value is nil, in one
	// transaction: after a crash either all of it is there or nothing. When it
	// returns nil it is on disk. When it returns an error nobody knows, and the
	// process must end.
	Update(values map[string][]byte) error
	// Close ends the use of the store.
	Close() error
}

// ErrDamaged says that a stored value does not have the bytes that were put.
var ErrDamaged = errors.New("store: a value of the manifest is damaged")

// MaxValueBytes bounds one value.
const MaxValueBytes = 8 << 20

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// seal puts a CRC over key and value in front of the value.
func seal(key string, value []byte) []byte {
	b := make([]byte, 4, 4+len(value))
	b = append(b, value...)
	binary.LittleEndian.PutUint32(b, checksum(key, value))
	return b
}

// unseal checks what seal wrote and returns a copy of the value.
func unseal(key string, b []byte) ([]byte, error) {
	if len(b) < 4 || binary.LittleEndian.Uint32(b) != checksum(key, b[4:]) {
		return nil, fmt.Errorf("%w: %s", ErrDamaged, key)
	}
	return append([]byte{}, b[4:]...), nil
}

func checksum(key string, value []byte) uint32 {
	return crc32.Update(crc32.Checksum([]byte(key), castagnoli), castagnoli, value)
}

// checkValues refuses what no store takes.
func checkValues(values map[string][]byte) error {
	for _, key := range slices.Sorted(maps.Keys(values)) {
		if key == "" || len(values[key]) > MaxValueBytes {
			return fmt.Errorf("store: value of %q has %d bytes, the limit is %d", key, len(values[key]), MaxValueBytes)
		}
	}
	return nil
}
