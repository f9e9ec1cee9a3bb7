package vfs

import "math/rand/v2"

// Mem is a file system in memory that can lose power.
type Mem struct{ FS }

// NewMem returns an empty file system. All chance comes from rnd.
func NewMem(rnd *rand.Rand) *Mem { panic("soon") }

// Crash returns the disk as a machine finds it after a power cut now: all
// synced data, and of the rest a random part. The original stays as it is.
func (m *Mem) Crash() *Mem { panic("soon") }

// Kill returns the file system as the next process finds it when this one was
// killed: all that was written is there, synced or not, and locks are free.
// The original is switched off.
func (m *Mem) Kill() *Mem { panic("soon") }

// PowerOffAfter switches the power off in the middle of the k-th following
// change (write, sync, truncation, new name); 1 is the next. That call and all
// later ones return ErrPowerOff; Crash then gives what the disk holds.
func (m *Mem) PowerOffAfter(k int) { panic("soon") }
