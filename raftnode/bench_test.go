package raftnode

import (
	"fmt"
	"testing"

	"github.com/wiber/wiber/raftnode/wal"
	"go.etcd.io/raft/v3/raftpb"
)

// fixed is a Proposer that always has the same payload.
type fixed []byte

func (f fixed) NextEntry(uint64) []byte { return f }

// BenchmarkHost steps three Hosts without disk and network through whole
// rounds: propose, send, append, acknowledge, commit, apply. It is the cost of
// consensus itself; guard its allocations.
func BenchmarkHost(b *testing.B) {
	for _, size := range []int{128, 4096} {
		b.Run(fmt.Sprintf("bytes=%d", size), func(b *testing.B) {
			voters := []uint64{1, 2, 3}
			var hosts []*Host
			var logs []*memLog
			for _, id := range voters {
				log := &memLog{conf: &raftpb.ConfState{Voters: voters}}
				cfg := Config{ID: id, Voters: voters, Groups: []GroupID{0}, Incarnation: 1}
				if id == 1 {
					cfg.Proposer = func(GroupID) Proposer { return fixed(make([]byte, size)) }
				}
				cfg, err := cfg.withDefaults()
				if err != nil {
					b.Fatal(err)
				}
				h, err := newHost(cfg, func(GroupID) storage { return log })
				if err != nil {
					b.Fatal(err)
				}
				hosts, logs = append(hosts, h), append(logs, log)
			}
			var append1 [3][]wal.Record
			applied := uint64(0)
			round := func() {
				for i, h := range hosts {
					for {
						out, ok := h.Next()
						if !ok {
							break
						}
						for _, m := range out.Send {
							if err := hosts[m.To-1].Receive(m.Group, m.Raft); err != nil {
								b.Fatal(err)
							}
						}
						if out.Append != nil {
							append1[i] = out.Append
						}
						for _, a := range out.Apply {
							last := a.Entries[len(a.Entries)-1].Index
							h.Applied(a.Group, last)
							if i == 0 {
								applied = last
							}
						}
					}
				}
				for i, recs := range append1 {
					if recs == nil {
						continue
					}
					for _, r := range recs {
						logs[i].write(r)
					}
					append1[i] = nil
					hosts[i].Appended()
				}
			}
			hosts[0].Tick()
			for range 20 {
				round()
			}
			if applied == 0 {
				b.Fatal("nothing is applied")
			}
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				for at := applied; applied == at; {
					round()
				}
			}
		})
	}
	b.Run("idle", func(b *testing.B) {
		voters := []uint64{1, 2, 3}
		cfg, _ := Config{ID: 1, Voters: voters, Groups: []GroupID{0, 1, 2, 3, 4}, Incarnation: 1}.withDefaults()
		h, err := newHost(cfg, func(GroupID) storage { return &memLog{conf: &raftpb.ConfState{Voters: voters}} })
		if err != nil {
			b.Fatal(err)
		}
		b.ReportAllocs()
		for b.Loop() {
			if _, ok := h.Next(); ok {
				b.Fatal("something to do")
			}
		}
	})
}
