package vfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"path"
	"sort"
	"strings"
	"sync"
)

// Mem is a file system in memory that can lose power. Each file has what
// programs see, what is on the disk, and the changes in between; each folder
// has the changes of its names. Crash decides what of them has reached the
// disk, sector by sector and in no particular order, as a disk does.
//
// All chance comes from the generator given to NewMem, so a run that makes the
// same calls in the same order repeats exactly.
type Mem struct {
	mu      sync.Mutex
	rnd     *rand.Rand
	live    map[string]*memNode // by cleaned path
	durable map[string]*memNode
	dirs    map[string]bool // folders are durable at once: MkdirAll promises that
	pending map[string][]nameChange
	locks   map[string]bool
	off     bool
	fuse    int // changes until the power goes; 0 = never
	free    uint64
}

// memNode is a file's content, whatever its name.
type memNode struct {
	data    []byte // what programs see
	disk    []byte // what a power cut leaves for sure
	changes []change
	// stale: a failed sync marked pages clean that never reached the disk, so
	// data is no longer disk plus changes.
	stale bool
}

// change is a write since the last sync, or a truncation: then data is the
// zeros over what was cut off.
type change struct {
	off  int64
	data []byte
	size int64 // the file's length afterwards
}

// nameChange is a name made (from empty), removed (to empty) or changed.
type nameChange struct {
	from, to string
	node     *memNode
}

// NewMem returns an empty file system. All chance comes from rnd, which must
// not be used elsewhere at the same time.
func NewMem(rnd *rand.Rand) *Mem {
	return &Mem{
		rnd: rnd, live: map[string]*memNode{}, durable: map[string]*memNode{},
		dirs: map[string]bool{".": true, "/": true}, pending: map[string][]nameChange{},
		locks: map[string]bool{}, free: 1 << 40,
	}
}

// Crash returns the disk as a machine finds it after a power cut now: all
// synced data and names, and of the rest a random part. The original stays as
// it is, so that one state can crash in many ways.
func (m *Mem) Crash() *Mem {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := NewMem(rand.New(rand.NewPCG(m.rnd.Uint64(), m.rnd.Uint64())))
	c.free = m.free
	for d := range m.dirs {
		c.dirs[d] = true
	}
	names := make(map[string]*memNode, len(m.durable))
	for name, n := range m.durable {
		names[name] = n
	}
	for _, dir := range sortedKeys(m.pending) {
		list := m.pending[dir]
		keep := m.chooser()
		for i, nc := range list {
			if keep(i, len(list)) {
				nc.apply(names)
			}
		}
	}
	copies := map[*memNode]*memNode{}
	for _, name := range sortedKeys(names) {
		n := names[name]
		if copies[n] == nil {
			disk := m.reached(n)
			copies[n] = &memNode{data: append([]byte(nil), disk...), disk: disk}
		}
		c.live[name], c.durable[name] = copies[n], copies[n]
	}
	return c
}

// Kill returns the file system as the next process finds it when this one was
// killed: all that was written is there, synced or not, and locks are free.
// The original is switched off; if its power is off already, so is the copy's.
func (m *Mem) Kill() *Mem {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := NewMem(m.rnd)
	c.off = m.off
	c.live, c.durable, c.dirs, c.pending, c.free = m.live, m.durable, m.dirs, m.pending, m.free
	m.live, m.durable, m.dirs, m.pending = nil, nil, nil, nil
	m.off = true
	return c
}

// PowerOffAfter switches the power off in the middle of the k-th following
// change (write, sync, truncation, new, removed or synced name); 1 is the next
// one, 0 takes the order back. That call and all later ones return
// ErrPowerOff; Crash then gives what the disk holds.
func (m *Mem) PowerOffAfter(k int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fuse = k
}

// Off says whether the power is off.
func (m *Mem) Off() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.off
}

// SetFree sets what Free returns. It limits nothing: see Fault for ENOSPC.
func (m *Mem) SetFree(bytes uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.free = bytes
}

// Flip changes one bit of a file behind its users' backs, in the page cache
// and on the disk: a latent disk error.
func (m *Mem) Flip(name string, off int64, bit uint) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.live[path.Clean(name)]
	if n == nil {
		return notExist("flip", name)
	}
	if off < 0 || off >= int64(len(n.data)) {
		return fmt.Errorf("flip %s: offset %d is outside its %d bytes", name, off, len(n.data))
	}
	n.data[off] ^= 1 << (bit % 8)
	if off < int64(len(n.disk)) {
		n.disk[off] ^= 1 << (bit % 8)
	}
	return nil
}

// chooser draws how much of a list of changes has reached the disk: nothing,
// all, the first of them, or a random part.
func (m *Mem) chooser() func(i, n int) bool {
	switch m.rnd.IntN(5) {
	case 0:
		return func(int, int) bool { return false }
	case 1:
		return func(int, int) bool { return true }
	case 2:
		part := m.rnd.Float64()
		return func(i, n int) bool { return float64(i) < part*float64(n) }
	}
	p := m.rnd.Float64()
	return func(int, int) bool { return m.rnd.Float64() < p }
}

// reached returns a copy of a node's disk with a random part of its changes:
// for each sector the disk holds it as it was after some change.
func (m *Mem) reached(n *memNode) []byte {
	disk := append([]byte(nil), n.disk...)
	if len(n.changes) == 0 {
		return disk
	}
	sector := int64(512)
	if m.rnd.IntN(2) == 0 {
		sector = 4096
	}
	size := int64(len(disk))
	keep := m.chooser()
	touching := map[int64][]int{}
	for i, c := range n.changes {
		if c.size != size && keep(i, len(n.changes)) {
			size = c.size
		}
		for s := c.off / sector; s*sector < c.off+int64(len(c.data)); s++ {
			touching[s] = append(touching[s], i)
		}
	}
	sectors := make([]int64, 0, len(touching))
	for s := range touching {
		sectors = append(sectors, s)
	}
	sort.Slice(sectors, func(i, j int) bool { return sectors[i] < sectors[j] })
	for k, s := range sectors {
		list := touching[s]
		if !keep(k, len(sectors)) {
			continue
		}
		upto := len(list)
		if m.rnd.IntN(4) == 0 {
			upto = m.rnd.IntN(len(list) + 1)
		}
		for _, i := range list[:upto] {
			c := n.changes[i]
			lo, hi := max(c.off, s*sector), min(c.off+int64(len(c.data)), (s+1)*sector)
			disk = patch(disk, lo, c.data[lo-c.off:hi-c.off])
			size = max(size, min(hi, c.size))
		}
	}
	return resize(disk, size)
}

// patch writes data at off, with zeros in between if off lies behind the end.
func patch(b []byte, off int64, data []byte) []byte {
	if end := off + int64(len(data)); int64(len(b)) < end {
		b = resize(b, end)
	}
	copy(b[off:], data)
	return b
}

func resize(b []byte, size int64) []byte {
	if int64(len(b)) >= size {
		return b[:size]
	}
	return append(b, make([]byte, size-int64(len(b)))...)
}

// sync moves all changes to the disk.
func (n *memNode) sync() {
	for _, c := range n.changes {
		n.disk = patch(n.disk, c.off, c.data)
		n.disk = resize(n.disk, c.size)
	}
	n.changes = nil
}

func (nc nameChange) apply(names map[string]*memNode) {
	if nc.from != "" && (names[nc.from] == nc.node || nc.to == "") {
		delete(names, nc.from)
	}
	if nc.to != "" {
		names[nc.to] = nc.node
	}
}

// stepLocked is called before every change. When the power goes in this one,
// half says so: the caller does a part of it and returns the error.
func (m *Mem) stepLocked() (half bool, err error) {
	if m.off {
		return false, ErrPowerOff
	}
	if m.fuse > 0 {
		if m.fuse--; m.fuse == 0 {
			m.off = true
			return true, ErrPowerOff
		}
	}
	return false, nil
}

// renameLocked records a change of names and makes it visible.
func (m *Mem) renameLocked(nc nameChange) {
	dir, _ := split(nc.to)
	if nc.to == "" {
		dir, _ = split(nc.from)
	}
	nc.apply(m.live)
	m.pending[dir] = append(m.pending[dir], nc)
}

// Create implements FS.
func (m *Mem) Create(name string) (File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	clean := path.Clean(name)
	half, err := m.stepLocked()
	if err != nil && !half {
		return nil, err
	}
	if m.live[clean] != nil || m.dirs[clean] {
		return nil, &fs.PathError{Op: "create", Path: name, Err: fs.ErrExist}
	}
	if dir, _ := split(clean); !m.dirs[dir] {
		return nil, notExist("create", name)
	}
	n := &memNode{}
	m.renameLocked(nameChange{to: clean, node: n})
	if err != nil {
		return nil, err
	}
	return &memFile{m: m, n: n, name: name}, nil
}

// Open implements FS.
func (m *Mem) Open(name string) (File, error) { return m.open(name, false) }

// OpenRead implements FS.
func (m *Mem) OpenRead(name string) (File, error) { return m.open(name, true) }

func (m *Mem) open(name string, readOnly bool) (File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.off {
		return nil, ErrPowerOff
	}
	n := m.live[path.Clean(name)]
	if n == nil {
		return nil, notExist("open", name)
	}
	return &memFile{m: m, n: n, name: name, readOnly: readOnly}, nil
}

// ReadFile implements FS.
func (m *Mem) ReadFile(name string, limit int64) ([]byte, error) { return readFile(m, name, limit) }

// WriteFile implements FS.
func (m *Mem) WriteFile(name string, data []byte) error { return writeFile(m, name, data) }

// MkdirAll implements FS.
func (m *Mem) MkdirAll(dir string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.off {
		return ErrPowerOff
	}
	for d := path.Clean(dir); !m.dirs[d]; d, _ = split(d) {
		if m.live[d] != nil {
			return fmt.Errorf("mkdir %s: a file has this name", d)
		}
		m.dirs[d] = true
	}
	return nil
}

// ReadDir implements FS.
func (m *Mem) ReadDir(dir string) ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.off {
		return nil, ErrPowerOff
	}
	clean := path.Clean(dir)
	if !m.dirs[clean] {
		return nil, notExist("open", dir)
	}
	names := []string{}
	for name := range m.live {
		if d, base := split(name); d == clean {
			names = append(names, base)
		}
	}
	for name := range m.dirs {
		if d, base := split(name); d == clean && name != clean && base != "" {
			names = append(names, base)
		}
	}
	sort.Strings(names)
	return names, nil
}

// Remove implements FS.
func (m *Mem) Remove(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	half, err := m.stepLocked()
	if err != nil && !half {
		return err
	}
	clean := path.Clean(name)
	if n := m.live[clean]; n != nil {
		m.renameLocked(nameChange{from: clean, node: n})
		return err
	}
	if !m.dirs[clean] {
		return notExist("remove", name)
	}
	for other := range m.live {
		if strings.HasPrefix(other, clean+"/") {
			return fmt.Errorf("remove %s: folder not empty", name)
		}
	}
	for other := range m.dirs {
		if strings.HasPrefix(other, clean+"/") {
			return fmt.Errorf("remove %s: folder not empty", name)
		}
	}
	delete(m.dirs, clean)
	return err
}

// Rename implements FS.
func (m *Mem) Rename(from, to string) error {
	if err := sameDir(from, to); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	half, err := m.stepLocked()
	if err != nil && !half {
		return err
	}
	n := m.live[path.Clean(from)]
	if n == nil {
		return notExist("rename", from)
	}
	m.renameLocked(nameChange{from: path.Clean(from), to: path.Clean(to), node: n})
	return err
}

// SyncDir implements FS.
func (m *Mem) SyncDir(dir string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, err := m.stepLocked(); err != nil {
		return err // Crash decides which names had reached the disk
	}
	clean := path.Clean(dir)
	if !m.dirs[clean] {
		return notExist("open", dir)
	}
	for _, nc := range m.pending[clean] {
		nc.apply(m.durable)
	}
	delete(m.pending, clean)
	return nil
}

// Size implements FS.
func (m *Mem) Size(name string) (int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.off {
		return 0, ErrPowerOff
	}
	n := m.live[path.Clean(name)]
	if n == nil {
		return 0, notExist("stat", name)
	}
	return int64(len(n.data)), nil
}

// Lock implements FS.
func (m *Mem) Lock(name string) (io.Closer, error) {
	clean := path.Clean(name)
	if f, err := m.Create(name); err == nil {
		f.Close()
	} else if !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.locks[clean] {
		return nil, lockedError(name, "")
	}
	m.locks[clean] = true
	return &memLock{m, clean}, nil
}

type memLock struct {
	m    *Mem
	name string
}

// Close implements io.Closer.
func (l *memLock) Close() error {
	l.m.mu.Lock()
	defer l.m.mu.Unlock()
	delete(l.m.locks, l.name)
	return nil
}

// Free implements FS.
func (m *Mem) Free(string) (uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.free, nil
}

func notExist(op, name string) error {
	return &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}
