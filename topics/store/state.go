package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"strings"

	"github.com/wiber/wiber/raftnode/vfs"
	"github.com/wiber/wiber/topics"
)

// Machine is a state machine that a State keeps: a *topics.Broker or a
// *topics.Catalogue.
type Machine interface {
	Applied() (index, term uint64)
	Checkpoint() *topics.Checkpoint
	Restore(next func() (key, value []byte, err error)) error
}

// Manifest is what the last checkpoint says about one group.
type Manifest struct {
	Applied, Term uint64
	Chain         topics.Chain
	ConfState     []byte
	Files         []File // the base, then the deltas, oldest first
}

// File is one state file: immutable, and only sound if it has this checksum.
type File struct {
	Name    string
	Size    int64
	Records uint64
	SHA256  [32]byte
}

// GroupState is one group's part of a checkpoint.
type GroupState struct {
	Group     uint64
	ConfState []byte
	State     *topics.Checkpoint
}

// StateOptions says where a node's state is kept.
type StateOptions struct {
	FS   vfs.FS
	Dir  string // of the state files; made if it is not there
	Meta MetaStore
	// MaxDeltas is how many deltas are merged into a new base (default 8);
	// they are merged sooner once they are half as large as their base.
	MaxDeltas int
}

// State keeps the checkpoints of a node's groups: sorted state files, and in the
// MetaStore a manifest that names them. A checkpoint is there as a whole or not
// at all. It has one owner.
type State struct {
	o         StateOptions
	manifests map[uint64]*Manifest
	sequence  uint64 // of the next file
}

const (
	manifestPrefix  = "checkpoint/"
	groupsKey       = "checkpoints"
	stateSuffix     = ".state"
	asideSuffix     = ".damaged"
	maxGroups       = topics.MaxShards + 1
	maxFiles        = 4096
	maxConfState    = 1 << 16
	manifestVersion = 1
)

func manifestKey(group uint64) string { return fmt.Sprint(manifestPrefix, group) }

// OpenState reads the manifests. It changes nothing on the disk but the folder.
func OpenState(o StateOptions) (*State, error) {
	if o.FS == nil || o.Meta == nil || o.Dir == "" || o.MaxDeltas < 0 {
		return nil, errors.New("store: a State needs FS, Dir and Meta")
	}
	if o.MaxDeltas == 0 {
		o.MaxDeltas = 8
	}
	if err := o.FS.MkdirAll(o.Dir); err != nil {
		return nil, fmt.Errorf("open %s: %w", o.Dir, err)
	}
	s := &State{o: o, manifests: map[uint64]*Manifest{}}
	b, err := o.Meta.Get(groupsKey)
	if err != nil || b == nil {
		return s, err
	}
	groups, err := s.decodeGroups(b)
	if err != nil {
		return nil, err
	}
	for _, group := range groups {
		b, err := o.Meta.Get(manifestKey(group))
		if err != nil {
			return nil, err
		}
		m, err := decodeManifest(b)
		if err != nil {
			return nil, fmt.Errorf("manifest of group %d: %w", group, err)
		}
		s.manifests[group] = m
	}
	return s, nil
}

// Manifest returns what the last checkpoint says about a group; false if there
// was none.
func (s *State) Manifest(group uint64) (Manifest, bool) {
	m, ok := s.manifests[group]
	if !ok {
		return Manifest{}, false
	}
	return *m, true
}

// Restore reads a group's last checkpoint into a new state machine; without one
// it does nothing. Damage is a *CorruptError; nothing is moved or deleted, and
// what has become of the state machine is of no use.
func (s *State) Restore(group uint64, into Machine) error {
	m, ok := s.manifests[group]
	if !ok {
		return nil
	}
	records, err := openMerge(s.o.FS, s.o.Dir, m.Files, group)
	if err != nil {
		return fmt.Errorf("restore group %d: %w", group, err)
	}
	if err := errors.Join(into.Restore(records.next), records.close()); err != nil {
		return fmt.Errorf("restore group %d: %w", group, err)
	}
	if index, _ := into.Applied(); index != m.Applied {
		return fmt.Errorf("restore group %d: %w: the files end at entry %d, the manifest says %d", group, ErrDamaged, index, m.Applied)
	}
	return nil
}

// SetAside gives a group's checkpoint up: its files are renamed, so that nothing
// removes them, and the manifest forgets them. It returns the files' new names.
// After a crash in the middle the files are missing, and it is done again.
func (s *State) SetAside(group uint64) (files []string, err error) {
	m, ok := s.manifests[group]
	if !ok {
		return nil, nil
	}
	for _, f := range m.Files {
		path := vfs.Join(s.o.Dir, f.Name)
		err := s.o.FS.Rename(path, path+asideSuffix)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("set %s aside: %w", path, err)
		}
		files = append(files, path+asideSuffix)
	}
	if err := s.o.FS.SyncDir(s.o.Dir); err != nil {
		return nil, fmt.Errorf("set the checkpoint of group %d aside: %w", group, err)
	}
	delete(s.manifests, group)
	if err := s.o.Meta.Update(map[string][]byte{manifestKey(group): nil, groupsKey: s.encodeGroups(nil)}); err != nil {
		return nil, fmt.Errorf("set the checkpoint of group %d aside: %w", group, err)
	}
	return files, nil
}

// Save makes one checkpoint of several groups: it writes and syncs their files,
// then replaces their manifests in one transaction, and only then removes the
// files that are no longer named. When it returns nil the checkpoint is durable.
// After an error the process must end.
func (s *State) Save(groups []GroupState) error { return s.SaveWith(groups, nil) }

// SaveWith is Save, with values of the caller's in the same transaction.
func (s *State) SaveWith(groups []GroupState, also map[string][]byte) error {
	if len(groups) == 0 {
		return nil
	}
	values := map[string][]byte{}
	maps.Copy(values, also)
	next := map[uint64]*Manifest{}
	for _, g := range groups {
		m, err := s.write(g)
		if err != nil {
			return fmt.Errorf("checkpoint of group %d: %w", g.Group, err)
		}
		next[g.Group] = m
		values[manifestKey(g.Group)] = m.append(nil)
	}
	if err := s.o.FS.SyncDir(s.o.Dir); err != nil {
		return fmt.Errorf("checkpoint: sync %s: %w", s.o.Dir, err)
	}
	values[groupsKey] = s.encodeGroups(next)
	if err := s.o.Meta.Update(values); err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	for group, m := range next {
		s.manifests[group] = m
	}
	return s.sweep()
}

// write writes a group's file: its delta, or a new base when there are many.
func (s *State) write(g GroupState) (*Manifest, error) {
	if len(g.ConfState) > maxConfState {
		return nil, fmt.Errorf("a ConfState of %d bytes", len(g.ConfState))
	}
	c := g.State
	c.Sort()
	m := &Manifest{Applied: c.Applied, Term: c.Term, Chain: c.Chain, ConfState: append([]byte{}, g.ConfState...)}
	if old := s.manifests[g.Group]; old != nil && !c.Full {
		m.Files = append(m.Files, old.Files...)
	} else if !c.Full {
		return nil, errors.New("a delta without the base that it belongs to")
	}
	file, err := s.writeDelta(g.Group, c)
	if err != nil {
		return nil, err
	}
	m.Files = append(m.Files, file)
	if !s.many(m.Files) {
		return m, nil
	}
	base, err := s.writeBase(g.Group, m.Files, c.Filter())
	if err != nil {
		return nil, fmt.Errorf("merge %d files: %w", len(m.Files), err)
	}
	m.Files = []File{base}
	return m, nil
}

// many reports whether files are worth merging.
func (s *State) many(files []File) bool {
	deltas := int64(0)
	for _, f := range files[1:] {
		deltas += f.Size
	}
	return len(files) > 1 && (len(files)-1 >= s.o.MaxDeltas || deltas > 1<<20 && deltas*2 > files[0].Size)
}

func (s *State) create(group uint64) (*fileWriter, string, error) {
	for {
		name := fmt.Sprintf("g%d-%016x%s", group, s.sequence, stateSuffix)
		w, err := newFileWriter(s.o.FS, vfs.Join(s.o.Dir, name), group, s.sequence)
		s.sequence++
		if !errors.Is(err, fs.ErrExist) { // named by the manifest, or left over
			return w, name, err
		}
	}
}

func (s *State) writeDelta(group uint64, c *topics.Checkpoint) (File, error) {
	w, name, err := s.create(group)
	if err != nil {
		return File{}, err
	}
	for i := range c.Len() {
		key, value, deleted := c.Record(i)
		if deleted && c.Full {
			continue
		}
		if err := w.add(key, value, deleted); err != nil {
			return File{}, errors.Join(err, w.f.Close())
		}
	}
	return w.finish(name)
}

func (s *State) writeBase(group uint64, files []File, filter *topics.StateFilter) (File, error) {
	records, err := openMerge(s.o.FS, s.o.Dir, files, group)
	if err != nil {
		return File{}, err
	}
	w, name, err := s.create(group)
	if err != nil {
		return File{}, errors.Join(err, records.close())
	}
	for {
		key, value, err := records.next()
		if errors.Is(err, io.EOF) {
			return w.finish(name)
		}
		if err == nil && filter.Keep(key, value) {
			err = w.add(key, value, false)
		}
		if err != nil {
			return File{}, errors.Join(err, w.f.Close(), records.close())
		}
	}
}

// sweep removes the state files that no manifest names: those that were merged,
// and what a crash in the middle of a checkpoint left over.
func (s *State) sweep() error {
	named := map[string]bool{}
	for _, m := range s.manifests {
		for _, f := range m.Files {
			named[f.Name] = true
		}
	}
	names, err := s.o.FS.ReadDir(s.o.Dir)
	if err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	for _, name := range names {
		if strings.HasSuffix(name, stateSuffix) && !named[name] {
			if err := s.o.FS.Remove(vfs.Join(s.o.Dir, name)); err != nil {
				return fmt.Errorf("checkpoint: %w", err)
			}
		}
	}
	return nil
}

func (m *Manifest) append(b []byte) []byte {
	b = append(b, manifestVersion)
	b = binary.LittleEndian.AppendUint64(b, m.Applied)
	b = binary.LittleEndian.AppendUint64(b, m.Term)
	b = append(b, m.Chain[:]...)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(m.ConfState)))
	b = append(b, m.ConfState...)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(m.Files)))
	for _, f := range m.Files {
		b = append(b, byte(len(f.Name)))
		b = append(b, f.Name...)
		b = binary.LittleEndian.AppendUint64(b, uint64(f.Size))
		b = binary.LittleEndian.AppendUint64(b, f.Records)
		b = append(b, f.SHA256[:]...)
	}
	return b
}

// decodeManifest reads what append wrote. nil, a value that is not there, is an
// error: the list of groups names it.
func decodeManifest(b []byte) (*Manifest, error) {
	d := decoder{b: b}
	if v := d.take(1); v != nil && v[0] != manifestVersion {
		return nil, fmt.Errorf("store: a manifest of version %d, this program reads version %d: use the program that wrote it", v[0], manifestVersion)
	}
	m := &Manifest{Applied: d.u64(), Term: d.u64()}
	copy(m.Chain[:], d.take(len(m.Chain)))
	m.ConfState = append([]byte{}, d.take(d.count(maxConfState))...)
	for range d.count(maxFiles) {
		if d.failed {
			break
		}
		f := File{}
		if n := d.take(1); n != nil {
			f.Name = string(d.take(int(n[0])))
		}
		f.Size, f.Records = int64(d.u64()), d.u64()
		copy(f.SHA256[:], d.take(len(f.SHA256)))
		if f.Name == "" || f.Size < 0 || strings.ContainsAny(f.Name, "/\\") {
			d.failed = true
		}
		m.Files = append(m.Files, f)
	}
	if d.failed || len(d.b) != 0 || len(m.Files) == 0 {
		return nil, fmt.Errorf("%w: a manifest", ErrDamaged)
	}
	return m, nil
}

// encodeGroups encodes the list of groups with a manifest, and the sequence
// number of the next file.
func (s *State) encodeGroups(more map[uint64]*Manifest) []byte {
	b := binary.LittleEndian.AppendUint64(nil, s.sequence)
	at := len(b)
	b = binary.LittleEndian.AppendUint32(b, 0)
	n := uint32(0)
	for group := range uint64(maxGroups) {
		if s.manifests[group] != nil || more[group] != nil {
			b = binary.LittleEndian.AppendUint64(b, group)
			n++
		}
	}
	binary.LittleEndian.PutUint32(b[at:], n)
	return b
}

func (s *State) decodeGroups(b []byte) (groups []uint64, err error) {
	d := decoder{b: b}
	s.sequence = d.u64()
	for range d.count(maxGroups) {
		groups = append(groups, d.u64())
	}
	if d.failed || len(d.b) != 0 {
		return nil, fmt.Errorf("%w: the list of groups", ErrDamaged)
	}
	return groups, nil
}

// decoder takes fields off a slice; after the first fault all are zero.
type decoder struct {
	b      []byte
	failed bool
}

func (d *decoder) take(n int) []byte {
	if d.failed || len(d.b) < n {
		d.failed, d.b = true, nil
		return nil
	}
	v := d.b[:n]
	d.b = d.b[n:]
	return v
}

func (d *decoder) u64() uint64 {
	if v := d.take(8); v != nil {
		return binary.LittleEndian.Uint64(v)
	}
	return 0
}

func (d *decoder) count(limit int) int {
	v := d.take(4)
	if v == nil {
		return 0
	}
	n := binary.LittleEndian.Uint32(v)
	if n > uint32(limit) {
		d.failed = true
		return 0
	}
	return int(n)
}
