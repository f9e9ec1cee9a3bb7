package member

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/wiber/wiber/raftnode"
	"github.com/wiber/wiber/raftnode/wal"
	"github.com/wiber/wiber/topics/store"
)

// settling is the state of the settle loop: index files for sealed segments,
// and a checkpoint after each, so that a restart replays at most two.
type settling struct {
	state *store.State
	conf  []byte // who votes, in every group
	// taken is a checkpoint that is not on disk yet: it waits until the log's
	// durable commit covers it (D2).
	taken []store.GroupState
	// indexed is the newest segment whose index file taken builds on.
	indexed uint64
}

// indexedKey is the manifest's value that says how far the index files reached
// at the last checkpoint: 8 bytes.
const indexedKey = "indexed"

// segmentKey is the manifest's value that says which segment of the log was the
// newest: 8 bytes.
const segmentKey = "segment"

// OpenLog recovers a node's log, or begins one. The manifest remembers each
// segment before anything is in it: a log whose newest segments are gone looks
// whole by itself, and its node would vote without what it acknowledged. Such a
// log is a *wal.CorruptError.
func OpenLog(meta store.MetaStore, o wal.Options) (*wal.WAL, error) {
	b, err := meta.Get(segmentKey)
	if err != nil {
		return nil, err
	}
	if len(b) == 8 { // absent where a program wrote that did not remember it
		o.Newest = binary.LittleEndian.Uint64(b)
	}
	o.Begun = func(segment uint64) error {
		return meta.Update(map[string][]byte{segmentKey: binary.LittleEndian.AppendUint64(nil, segment)})
	}
	return wal.Open(o)
}

// restore brings the state machines to the last checkpoint.
func (e *Engine) restore() error {
	state, err := store.OpenState(store.StateOptions{FS: e.c.FS, Dir: e.c.Dir, Meta: e.c.Meta})
	if err != nil {
		return err
	}
	if e.settling.conf, err = raftnode.ConfState(e.voters()); err != nil {
		return err
	}
	e.settling.state = state
	indexed, any := indexedUpTo(e.log)
	whole, err := e.indexesMissing(indexed, any)
	if err != nil {
		return err
	}
	if whole {
		e.c.Logger.Warn("index files that the checkpoint builds on are missing: the log is read from its beginning, and they are made anew")
	}
	for _, g := range e.groups {
		if m, ok := state.Manifest(uint64(g.id)); ok && whole && !raftnode.CanCheckpoint(e.log, g.id, m.Applied) {
			return &RefusedError{fmt.Sprintf("the checkpoint of group %s holds entries up to %d, and the log does not come as far: its newest files are missing; bring them back", g.id, m.Applied)}
		}
		if g.broker == nil || !whole {
			if err := state.Restore(uint64(g.id), g.sm); err != nil {
				return err
			}
		}
		if m, ok := state.Manifest(uint64(g.id)); ok && !bytes.Equal(m.ConfState, e.settling.conf) {
			return &RefusedError{fmt.Sprintf("the checkpoint of group %s has other voters than the folder's identity: this program cannot change who votes; use the one that wrote it", g.id)}
		}
		if g.broker != nil && any {
			g.broker.Unload(indexed)
		}
	}
	if e.cat.isFormed() {
		close(e.cat.formed)
	}
	e.cat.noted = e.cat.Version()
	for _, t := range e.sortedTopics() {
		e.cat.largest.Store(max(e.cat.largest.Load(), int64(t.Spec.MaxMessageBytes)))
	}
	return nil
}

// setAside answers an error of restore: if a state file is damaged and the log
// has all that the checkpoints hold, the checkpoint of that group is set aside, and
// the group is restored from the log alone. The log is kept whole, so it begins
// with the group's first entry. Any other error is returned.
func (e *Engine) setAside(err error) error {
	var damaged *store.CorruptError
	if !errors.As(err, &damaged) {
		return err
	}
	for _, g := range e.groups { // of a log that lacks something, nothing is touched
		m, ok := e.settling.state.Manifest(uint64(g.id))
		if ok && (!bytes.Equal(m.ConfState, e.settling.conf) || !raftnode.CanCheckpoint(e.log, g.id, m.Applied)) {
			return err
		}
	}
	files, aerr := e.settling.state.SetAside(damaged.Group)
	if aerr != nil {
		return errors.Join(err, aerr)
	}
	e.c.Logger.Error("a checkpoint is damaged: its files are set aside, and the state is made again from the whole log; look at the disk",
		"group", raftnode.GroupID(damaged.Group).String(), "files", files, "err", err)
	return nil
}

// indexesMissing says that the last checkpoint knows of index files that are not
// there. What they held is not in the checkpoint; all of the log gives it back.
func (e *Engine) indexesMissing(indexed uint64, any bool) (bool, error) {
	b, err := e.c.Meta.Get(indexedKey)
	if err != nil || len(b) != 8 {
		return false, err
	}
	return !any || indexed < binary.LittleEndian.Uint64(b), nil
}

// indexedUpTo is the newest segment that has an index file, as all before it.
func indexedUpTo(log *wal.WAL) (segment uint64, any bool) {
	if sealed := log.Sealed(); len(sealed) > 0 {
		return sealed[0].Number - 1, sealed[0].Number > 1
	}
	rec := log.Recovered()
	return rec.End.Segment, rec.Segments > 0
}

// Settle does one step of the settle loop: the index file of the oldest sealed
// segment that every group has applied, then the checkpoint that follows it. It
// says whether it did something; call it until it does not, now and then. After
// an error the process must end.
func (e *Engine) Settle() (bool, error) {
	if e.settling.taken != nil {
		return e.save()
	}
	sealed := e.log.Sealed()
	if len(sealed) == 0 || !e.allApplied(sealed[0]) {
		return false, nil
	}
	segment := sealed[0].Number
	var streams []wal.StreamRecord
	for _, g := range e.groups[1:] {
		g.mu.Lock()
		sealed := g.broker.Seal(segment)
		g.mu.Unlock()
		streams = sealed.Records(streams)
	}
	if err := e.log.WriteIndex(segment, streams); err != nil {
		return false, err
	}
	e.settling.indexed = segment
	for _, g := range e.groups {
		g.mu.Lock()
		if g.broker != nil {
			g.broker.Unload(segment)
		}
		taken := g.sm.Checkpoint()
		g.mu.Unlock()
		e.settling.taken = append(e.settling.taken, store.GroupState{Group: uint64(g.id), ConfState: e.settling.conf, State: taken})
	}
	return true, nil
}

// allApplied says whether every group has applied what a segment holds of it.
func (e *Engine) allApplied(s wal.Sealed) bool {
	for _, r := range s.Groups {
		if r.Group >= uint64(len(e.groups)) {
			continue // of a group that this node does not run
		}
		g := e.groups[r.Group]
		g.mu.Lock()
		applied := g.applied()
		g.mu.Unlock()
		if applied < r.Last {
			return false
		}
	}
	return true
}

// save brings a taken checkpoint to the disk once the log's durable commit
// covers it.
func (e *Engine) save() (bool, error) {
	for _, t := range e.settling.taken {
		if !raftnode.CanCheckpoint(e.log, raftnode.GroupID(t.Group), t.State.Applied) {
			return false, nil
		}
	}
	indexed := binary.LittleEndian.AppendUint64(nil, e.settling.indexed)
	if err := e.settling.state.SaveWith(e.settling.taken, map[string][]byte{indexedKey: indexed}); err != nil {
		return false, fmt.Errorf("the checkpoint cannot be written, so this node ends (nothing acknowledged is lost; look at the disk, then start it again): %w", err)
	}
	e.settling.taken = nil
	return true, nil
}
