package wal

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	"github.com/wiber/wiber/raftnode/vfs"
)

// TestStories runs the files of testdata/stories: one log each, told step by
// step.
func TestStories(t *testing.T) {
	if plantedTruncateOnCRC {
		t.Skip("built with a bug that the stories tell of")
	}
	datadriven.Walk(t, "testdata/stories", func(t *testing.T, path string) {
		s := &story{t: t, disk: vfs.NewMem(seeded(1))}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			out, err := s.step(d)
			if err != nil {
				out += "error: " + err.Error() + "\n"
			}
			return out
		})
		if s.w != nil {
			s.w.Close()
		}
	})
}

// story is one log on one disk.
type story struct {
	t     *testing.T
	disk  *vfs.Mem
	w     *WAL
	opens uint64
}

func (s *story) step(d *datadriven.TestData) (string, error) {
	switch d.Cmd {
	case "open": // [tail=bytes]: kill the process, if one runs, and open the log
		return s.open(d)
	case "append": // a record per line: group=1 [entries=1-3 term=1 size=20] [carried] [hs=term,vote,commit]
		return s.append(d)
	case "idle":
		before := s.w.Syncs()
		err := s.w.Idle()
		return fmt.Sprintf("%d syncs\n", s.w.Syncs()-before), err
	case "power-off": // after=k: in the k-th change from now on
		k := 0
		d.ScanArgs(s.t, "after", &k)
		s.disk.PowerOffAfter(k)
		return "", nil
	case "crash": // [try=n]: what is not synced is lost in part; the n-th way
		try := 1
		if d.HasArg("try") {
			d.ScanArgs(s.t, "try", &try)
		}
		for ; try > 1; try-- {
			s.disk.Crash()
		}
		s.disk = s.disk.Crash()
		s.w = nil
		return "", nil
	case "log": // group=1: what it has
		return s.log(d)
	case "frames": // segment=1: its header and what lies in it
		return s.frames(d)
	case "index": // segment=1: write its index file
		n := uint64(0)
		d.ScanArgs(s.t, "segment", &n)
		return "", s.w.WriteIndex(n, nil)
	case "sealed":
		out := ""
		for _, sealed := range s.w.Sealed() {
			out += fmt.Sprintf("segment %d: %v\n", sealed.Number, sealed.Groups)
		}
		return out, nil
	case "zero", "flip", "put": // file=000000000001.wal at=4096 [len=512] [value=7]: damage
		return s.damage(d)
	case "copy": // from=... to=... at=4096 len=400
		return s.copy(d)
	case "remove": // file=...
		name := ""
		d.ScanArgs(s.t, "file", &name)
		return "", s.disk.Remove("wal/" + name)
	case "files":
		names, err := s.disk.ReadDir("wal")
		out := ""
		for _, n := range names {
			size, _ := s.disk.Size("wal/" + n)
			out += fmt.Sprintf("%s %d\n", n, size)
		}
		return out, err
	}
	s.t.Fatalf("unknown step %q", d.Cmd)
	return "", nil
}

func (s *story) open(d *datadriven.TestData) (string, error) {
	s.opens++
	s.disk = s.disk.Kill()
	o := small(s.disk, s.opens)
	d.MaybeScanArgs(s.t, "tail", &o.TailBytes)
	w, err := Open(o)
	if err != nil {
		var c *CorruptError
		if errors.As(err, &c) {
			return "corrupt\n", err
		}
		return "", err
	}
	s.w = w
	r := w.Recovered()
	out := fmt.Sprintf("%d segments, %d indexed, %d frames read; synced through %d:%d, end %d:%d\n",
		r.Segments, r.Indexed, r.Frames, r.Synced.Segment, r.Synced.Offset, r.End.Segment, r.End.Offset)
	if r.TornBytes > 0 {
		out += fmt.Sprintf("torn tail: %d bytes, with %d whole frames behind a hole\n", r.TornBytes, r.TornFrames)
	}
	for _, g := range r.Groups {
		out += s.group(g.Group)
	}
	return out, nil
}

func (s *story) append(d *datadriven.TestData) (string, error) {
	var recs []Record
	for _, line := range strings.Split(strings.TrimSpace(d.Input), "\n") {
		r := Record{}
		first, last, term, size := uint64(0), uint64(0), uint64(1), 20
		for _, f := range strings.Fields(line) {
			key, val, _ := strings.Cut(f, "=")
			var err error
			switch key {
			case "group":
				_, err = fmt.Sscan(val, &r.Group)
			case "entries":
				_, err = fmt.Sscanf(val, "%d-%d", &first, &last)
			case "term":
				_, err = fmt.Sscan(val, &term)
			case "size":
				_, err = fmt.Sscan(val, &size)
			case "carried":
				r.Carried = true
			case "hs":
				var a, b, c uint64
				_, err = fmt.Sscanf(val, "%d,%d,%d", &a, &b, &c)
				r.HardState = hard(a, b, c)
			default:
				err = errors.New("unknown field")
			}
			if err != nil {
				s.t.Fatalf("%s: %s: %v", d.Pos, f, err)
			}
		}
		if first > 0 {
			r.Entries = run(r.Group, term, first, last, size)
		}
		recs = append(recs, r)
	}
	syncs, segment := s.w.Syncs(), len(s.w.segments)
	err := s.w.Append(recs)
	if err != nil {
		return "", err
	}
	out := fmt.Sprintf("end %d:%d, %d syncs\n", len(s.w.segments), s.w.off, s.w.Syncs()-syncs)
	if len(s.w.segments) > segment {
		out += "a new segment\n"
	}
	return out, nil
}

func (s *story) log(d *datadriven.TestData) (string, error) {
	id := uint64(0)
	d.ScanArgs(s.t, "group", &id)
	return s.group(id), nil
}

// group describes a group: its hard state and its entries by terms. Every
// entry is read and compared with what run makes.
func (s *story) group(id uint64) string {
	g := s.w.Group(id)
	hs, _, _ := g.InitialState()
	out := fmt.Sprintf("group %d: term %d vote %d commit %d;", id, hs.GetTerm(), hs.GetVote(), hs.GetCommit())
	last, _ := g.LastIndex()
	if last == 0 {
		return out + " no entries\n"
	}
	entries, err := g.Entries(1, last+1, noLimit())
	if err != nil {
		return out + " error: " + err.Error() + "\n"
	}
	for i := 0; i < len(entries); {
		j := i
		for j < len(entries) && entries[j].GetTerm() == entries[i].GetTerm() {
			e := entries[j]
			if !strings.HasPrefix(string(e.GetData())+".", fmt.Sprintf("g%d-i%d-t%d.", id, e.GetIndex(), e.GetTerm())) {
				out += fmt.Sprintf(" WRONG DATA %q", e.GetData())
			}
			if term, err := g.Term(e.GetIndex()); term != e.GetTerm() || err != nil {
				out += fmt.Sprintf(" WRONG TERM %d %v", term, err)
			}
			j++
		}
		out += fmt.Sprintf(" %d-%d of term %d", entries[i].GetIndex(), entries[j-1].GetIndex(), entries[i].GetTerm())
		i = j
	}
	return out + "\n"
}

func (s *story) frames(d *datadriven.TestData) (string, error) {
	n := uint64(0)
	d.ScanArgs(s.t, "segment", &n)
	data, err := s.disk.ReadFile("wal/"+segmentName(n), 1<<20)
	if err != nil {
		return "", err
	}
	h, err := decodeHeader(data)
	if err != nil {
		return "", err
	}
	out := fmt.Sprintf("segment %d, after a segment that ends at %d, from frame %d on\n", h.number, h.prevEnd, h.firstFrame)
	f := &frames{r: strings.NewReader(string(data)), life: h.life, size: int64(len(data)), off: headerBytes, number: h.firstFrame}
	for {
		at := f.off
		payload, off, err := f.next()
		if err != nil {
			return out + fmt.Sprintf("%6d: %v\n", at, err), nil
		}
		out += fmt.Sprintf("%6d: frame %d, %d bytes, synced through %d:", at, f.number-1, len(payload), f.synced)
		err = eachRecord(payload, off, func(r record) error {
			switch r.kind {
			case kindState:
				out += fmt.Sprintf(" [group %d hs %d,%d,%d]", r.group, r.term, r.vote, r.commit)
			default:
				out += fmt.Sprintf(" [group %d %s %d-%d]", r.group, map[byte]string{kindEntries: "entries", kindCarried: "carried"}[r.kind], r.first, r.first+uint64(r.count)-1)
			}
			return nil
		})
		if err != nil {
			return out, err
		}
		out += "\n"
	}
}

func (s *story) copy(d *datadriven.TestData) (string, error) {
	from, to, at, n := "", "", int64(0), int64(0)
	d.ScanArgs(s.t, "from", &from)
	d.ScanArgs(s.t, "to", &to)
	d.ScanArgs(s.t, "at", &at)
	d.ScanArgs(s.t, "len", &n)
	data, err := s.disk.ReadFile("wal/"+from, 1<<20)
	if err != nil {
		return "", err
	}
	return "", s.overwrite(to, data[at:at+n], at)
}

// overwrite changes a file behind the log's back.
func (s *story) overwrite(name string, data []byte, at int64) error {
	f, err := s.disk.Open("wal/" + name)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.WriteAt(data, at); err != nil {
		return err
	}
	return f.Sync()
}

func (s *story) damage(d *datadriven.TestData) (string, error) {
	name, at, n := "", int64(0), int64(1)
	d.ScanArgs(s.t, "file", &name)
	d.ScanArgs(s.t, "at", &at)
	if d.HasArg("len") {
		d.ScanArgs(s.t, "len", &n)
	}
	if d.Cmd == "flip" {
		return "", s.disk.Flip("wal/"+name, at, 3)
	}
	b := make([]byte, n)
	if d.Cmd == "put" {
		v := 0
		d.ScanArgs(s.t, "value", &v)
		b[0] = byte(v)
	}
	return "", s.overwrite(name, b, at)
}
