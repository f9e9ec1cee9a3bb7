package store

import (
	"maps"
	"slices"
	"sync"
)

// Mem is a MetaStore in memory. A transaction is durable at once; what survives
// a crash is what Snapshot returns.
type Mem struct {
	mu     sync.Mutex
	values map[string][]byte // sealed; never changed in place
}

// NewMem returns an empty store.
func NewMem() *Mem { return &Mem{values: make(map[string][]byte)} }

// Snapshot returns an independent store with the same content: what the next
// incarnation finds.
func (m *Mem) Snapshot() *Mem {
	m.mu.Lock()
	defer m.mu.Unlock()
	return &Mem{values: maps.Clone(m.values)}
}

// Get implements MetaStore.
func (m *Mem) Get(key string) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	raw, ok := m.values[key]
	if !ok {
		return nil, nil
	}
	return unseal(key, raw)
}

// Update implements MetaStore.
func (m *Mem) Update(values map[string][]byte) error {
	if err := checkValues(values); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	next := maps.Clone(m.values)
	for _, key := range slices.Sorted(maps.Keys(values)) {
		if values[key] == nil {
			delete(next, key)
		} else {
			next[key] = seal(key, values[key])
		}
	}
	m.values = next
	return nil
}

// Close implements MetaStore.
func (m *Mem) Close() error { return nil }
