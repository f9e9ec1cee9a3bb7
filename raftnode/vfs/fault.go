package vfs

// Op is a kind of call that a Rule can hit.
type Op string

// The calls that rules name.
const (
	OpCreate   Op = "create"
	OpOpen     Op = "open"
	OpRead     Op = "read"
	OpWrite    Op = "write"
	OpSync     Op = "sync"
	OpTruncate Op = "truncate"
	OpRename   Op = "rename"
	OpRemove   Op = "remove"
	OpMkdir    Op = "mkdir"
	OpSyncDir  Op = "syncdir"
)

// Rule makes calls fail. The zero values of Op and Name hit everything.
type Rule struct {
	// Op is the call to hit.
	Op Op
	// Name is a part of the name of the file to hit.
	Name string
	// After is how many calls that match pass first.
	After int
	// Count is how many calls fail then; 0 = all.
	Count int
	// Err is what they return; nil = they succeed (with Do, a slow call).
	Err error
	// Torn makes a write that fails leave its first half behind.
	Torn bool
	// Do is called before the effect, with no lock held. A test blocks in it.
	Do func()
}

// Fault wraps a file system and makes calls fail by rule.
type Fault struct{ FS }

// NewFault returns fsys with no rules.
func NewFault(fsys FS) *Fault { panic("soon") }

// Add adds a rule. The first that matches a call decides.
func (f *Fault) Add(r Rule) { panic("soon") }

// Clear removes all rules.
func (f *Fault) Clear() { panic("soon") }

// ReadOnly makes every call that changes something fail with fs.ErrPermission.
func (f *Fault) ReadOnly() { panic("soon") }
