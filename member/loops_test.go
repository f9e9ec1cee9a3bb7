package member

import (
	"errors"
	"log/slog"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/wiber/wiber/raftnode/vfs"
	"github.com/wiber/wiber/timesvc"
	"github.com/wiber/wiber/topics/batch"
	"github.com/wiber/wiber/topics/server"
)

// acknowledged counts publishes that were acknowledged.
type acknowledged struct{ n atomic.Int64 }

func (a *acknowledged) Complete(_ server.Receipt, err error) {
	if err == nil {
		a.n.Add(1)
	}
}

// A write or a sync fails once; the same call would succeed the next time. The
// node ends all the same, and nothing that stood behind it is acknowledged:
// nobody knows what the disk holds now.
func TestD3AFailedWriteEndsTheNode(t *testing.T) {
	for name, c := range map[string]struct {
		rule     vfs.Rule
		manifest bool // fails, instead of a file
		publish  bool
	}{
		"a sync of the log":               {rule: vfs.Rule{Op: vfs.OpSync, Name: "log/"}, publish: true},
		"a write of the log":              {rule: vfs.Rule{Op: vfs.OpWrite, Name: "log/", Torn: true}, publish: true},
		"a sync of a checkpoint's file":   {rule: vfs.Rule{Op: vfs.OpSync, Name: ".state"}},
		"a sync of a checkpoint's folder": {rule: vfs.Rule{Op: vfs.OpSyncDir, Name: "state"}},
		"a sync of an index file":         {rule: vfs.Rule{Op: vfs.OpSync, Name: ".idx"}},
		"the manifest's transaction":      {manifest: true},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSingle(t, 3)
			topic, _ := s.Topic("a")
			c.rule.Err, c.rule.Count = syscall.EIO, 1
			var got acknowledged
			if c.publish {
				s.fault.Add(c.rule)
				b := batch.AppendRecord(nil, &batch.Record{Value: []byte("v")})
				s.Publish(&server.Publish{Topic: "a", UID: topic.UID, Batch: b, Done: &got})
			} else {
				s.publishUntilSealed()
				if !c.manifest {
					s.fault.Add(c.rule)
				}
			}
			if c.manifest {
				once := true
				s.meta.before = func(map[string][]byte) error {
					if !once {
						return nil
					}
					once = false
					return syscall.EIO
				}
			}
			n := &node{clock: timesvc.NewSystem(timesvc.Skew{}), log: slog.New(slog.DiscardHandler), tick: 10 * time.Millisecond, inbox: s.inbox}
			ended := make(chan error, 1)
			go func() { ended <- n.runLoops(t.Context(), s.Engine, nil) }()
			select {
			case err := <-ended:
				if !errors.Is(err, syscall.EIO) {
					t.Errorf("ended with %v", err)
				}
			case <-time.After(20 * time.Second):
				t.Fatal("the node goes on")
			}
			if got.n.Load() != 0 {
				t.Error("a message was acknowledged that may not be on the disk")
			}
		})
	}
}
