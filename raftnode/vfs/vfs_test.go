package vfs

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"slices"
	"testing"
)

func newMem(seed uint64) *Mem { return NewMem(rand.New(rand.NewPCG(seed, 1))) }

// TestContract holds every file system to the same promises.
func TestContract(t *testing.T) {
	systems := []struct {
		name string
		make func(t *testing.T) (FS, string)
	}{
		{"OS", func(t *testing.T) (FS, string) { return OS{}, t.TempDir() }},
		{"Mem", func(t *testing.T) (FS, string) { return newMem(1), "/data" }},
		{"Fault over Mem", func(t *testing.T) (FS, string) { return NewFault(newMem(1)), "data" }},
	}
	for _, s := range systems {
		t.Run(s.name, func(t *testing.T) {
			fsys, dir := s.make(t)
			if err := fsys.MkdirAll(Join(dir, "a/b")); err != nil {
				t.Fatal(err)
			}
			contract(t, fsys, Join(dir, "a/b"))
		})
	}
}

func contract(t *testing.T, fsys FS, dir string) {
	name := func(s string) string { return Join(dir, s) }
	check := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	wants := func(what string, err, target error) {
		t.Helper()
		if !errors.Is(err, target) {
			t.Fatalf("%s: error is %v, want %v", what, err, target)
		}
	}
	check("a folder that is there", fsys.MkdirAll(dir))
	_, err := fsys.Open(name("x"))
	wants("open a missing file", err, fs.ErrNotExist)
	_, err = fsys.Create(name("nowhere/x"))
	wants("create in a missing folder", err, fs.ErrNotExist)
	_, err = fsys.ReadDir(name("nowhere"))
	wants("list a missing folder", err, fs.ErrNotExist)
	wants("remove a missing file", fsys.Remove(name("x")), fs.ErrNotExist)
	wants("rename a missing file", fsys.Rename(name("x"), name("y")), fs.ErrNotExist)

	f, err := fsys.Create(name("x"))
	check("create", err)
	_, err = fsys.Create(name("x"))
	wants("create twice", err, fs.ErrExist)
	_, err = f.WriteAt([]byte("hello"), 3)
	check("write behind the end", err)
	check("sync", f.Sync())
	buf := make([]byte, 10)
	n, err := f.ReadAt(buf, 1)
	if n != 7 || err != io.EOF || string(buf[:n]) != "\x00\x00hello" {
		t.Fatalf("read over the end: %q, %v", buf[:n], err)
	}
	if n, err := f.ReadAt(buf, 100); n != 0 || err != io.EOF {
		t.Fatalf("read behind the end: %d, %v", n, err)
	}
	check("truncate down", f.Truncate(5))
	check("truncate up", f.Truncate(7))
	check("evict", f.Evict())
	got, err := fsys.ReadFile(name("x"), 7)
	check("read whole", err)
	if string(got) != "\x00\x00\x00he\x00\x00" {
		t.Fatalf("after truncations: %q", got)
	}
	if _, err := fsys.ReadFile(name("x"), 6); err == nil {
		t.Fatal("a file over the limit was read")
	}
	size, err := f.Size()
	check("size", err)
	named, err := fsys.Size(name("x"))
	check("size by name", err)
	if size != 7 || named != 7 {
		t.Fatalf("sizes %d and %d, want 7", size, named)
	}

	check("zero", f.Zero(3<<20+5))
	if size, _ := f.Size(); size != 3<<20+5 {
		t.Fatalf("zeroed file has %d bytes", size)
	}
	buf = bytes.Repeat([]byte{1}, 20)
	if _, err := f.ReadAt(buf, 0); err != nil || !bytes.Equal(buf, make([]byte, 20)) {
		t.Fatalf("zeroed file holds %x, %v", buf, err)
	}
	check("close", f.Close())
	if _, err := f.ReadAt(buf, 0); !errors.Is(err, fs.ErrClosed) {
		t.Fatalf("read of a closed file: %v", err)
	}
	r, err := fsys.OpenRead(name("x"))
	check("open for reading", err)
	if _, err := r.WriteAt([]byte("x"), 0); err == nil {
		t.Fatal("a file open for reading was written")
	}
	check("close", r.Close())

	check("write file", fsys.WriteFile(name("w"), []byte("one")))
	check("write file again", fsys.WriteFile(name("w"), []byte("two")))
	got, err = fsys.ReadFile(name("w"), 100)
	if err != nil || string(got) != "two" {
		t.Fatalf("written file holds %q, %v", got, err)
	}
	check("rename over", fsys.Rename(name("x"), name("w")))
	check("sync folder", fsys.SyncDir(dir))
	if err := fsys.Rename(name("w"), Join(dir, "../w")); err == nil {
		t.Fatal("a rename to another folder worked")
	}
	check("write file", fsys.WriteFile(name("b"), nil))
	check("write file", fsys.WriteFile(name("a"), nil))
	check("make folder", fsys.MkdirAll(name("c")))
	names, err := fsys.ReadDir(dir)
	check("list", err)
	if want := []string{"a", "b", "c", "w"}; !slices.Equal(names, want) {
		t.Fatalf("names %q, want %q", names, want)
	}
	if err := fsys.Remove(dir); err == nil {
		t.Fatal("a folder with files was removed")
	}
	check("remove folder", fsys.Remove(name("c")))
	check("remove file", fsys.Remove(name("a")))
	if err := fsys.MkdirAll(name("b/d")); err == nil {
		t.Fatal("a folder was made below a file")
	}

	l, err := fsys.Lock(name("LOCK"))
	check("lock", err)
	_, err = fsys.Lock(name("LOCK"))
	wants("lock twice", err, ErrLocked)
	check("unlock", l.Close())
	l, err = fsys.Lock(name("LOCK"))
	check("lock again", err)
	check("unlock", l.Close())
	if n, err := fsys.Free(dir); err != nil || n == 0 {
		t.Fatalf("free space %d, %v", n, err)
	}
}

// write makes or extends a file and syncs it if told to.
func write(t *testing.T, fsys FS, name, data string, off int64, sync bool) File {
	t.Helper()
	f, err := fsys.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		f, err = fsys.Create(name)
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte(data), off); err != nil {
		t.Fatal(err)
	}
	if sync {
		if err := f.Sync(); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

// TestMemCrash counts, over many crashes of one state, what came through: the
// synced part always, the rest sometimes, in part and out of order.
func TestMemCrash(t *testing.T) {
	m := newMem(2)
	if err := m.MkdirAll("d"); err != nil {
		t.Fatal(err)
	}
	write(t, m, "d/f", string(bytes.Repeat([]byte{'s'}, 8192)), 0, true)
	if err := m.SyncDir("d"); err != nil {
		t.Fatal(err)
	}
	write(t, m, "d/f", string(bytes.Repeat([]byte{'u'}, 8192)), 4096, false)
	write(t, m, "d/new", "x", 0, true)
	seen := map[string]int{}
	for range 400 {
		c := m.Crash()
		got, err := c.ReadFile("d/f", 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		if len(got) < 8192 || !bytes.Equal(got[:4096], bytes.Repeat([]byte{'s'}, 4096)) {
			t.Fatal("synced data was lost")
		}
		u := bytes.Count(got, []byte{'u'})
		first := bytes.IndexByte(got, 'u')
		switch {
		case u == 0:
			seen["none"]++
		case u == 8192:
			seen["all"]++
		case u%512 != 0:
			t.Fatalf("%d unsynced bytes came through: not whole sectors", u)
		case first > 4096:
			seen["later without earlier"]++
		default:
			seen["part"]++
		}
		if _, err := c.Size("d/new"); err == nil {
			seen["name"]++
		} else {
			seen["no name"]++
		}
	}
	for _, k := range []string{"none", "all", "part", "later without earlier", "name", "no name"} {
		if seen[k] < 10 {
			t.Errorf("%q was seen %d times in 400 crashes: %v", k, seen[k], seen)
		}
	}
	if got, _ := m.ReadFile("d/f", 1<<20); bytes.Count(got, []byte{'u'}) != 8192 {
		t.Error("a crash changed the original")
	}
}

// TestMemRepeats checks that one seed gives one history.
func TestMemRepeats(t *testing.T) {
	run := func() string {
		m := newMem(3)
		m.MkdirAll("d")
		out := ""
		for i := range 50 {
			write(t, m, "d/"+string(rune('a'+i%5)), "some data", int64(i)*300, i%7 == 0)
			c := m.Crash()
			names, _ := c.ReadDir("d")
			for _, n := range names {
				data, _ := c.ReadFile("d/"+n, 1<<20)
				out += n + string(data) + "|"
			}
		}
		return out
	}
	if first, second := run(), run(); first != second {
		t.Fatal("two runs with one seed differ")
	}
}

// TestMemPowerOff walks the point of failure through a WriteFile: at each the
// name holds the old content or the new one, and both happen.
func TestMemPowerOff(t *testing.T) {
	seen := map[string]int{}
	for k := 1; k <= 7; k++ {
		for seed := range uint64(20) {
			m := newMem(seed)
			m.MkdirAll("d")
			if err := m.WriteFile("d/f", []byte("old")); err != nil {
				t.Fatal(err)
			}
			m.PowerOffAfter(k)
			err := m.WriteFile("d/f", []byte("new"))
			if (err != nil) != m.Off() {
				t.Fatalf("k=%d: error %v, power off %v", k, err, m.Off())
			}
			if m.Off() {
				if _, err := m.Open("d/f"); !errors.Is(err, ErrPowerOff) {
					t.Fatalf("open without power: %v", err)
				}
			}
			got, rerr := m.Crash().ReadFile("d/f", 100)
			if rerr != nil {
				t.Fatalf("k=%d seed=%d: %v", k, seed, rerr)
			}
			if err == nil && string(got) != "new" {
				t.Fatalf("k=%d seed=%d: acknowledged, but the file holds %q", k, seed, got)
			}
			seen[string(got)]++
		}
	}
	if len(seen) != 2 || seen["old"] == 0 || seen["new"] == 0 {
		t.Fatalf("contents seen: %v", seen)
	}
}

// TestMemKill: the page cache outlives the process, its locks do not.
func TestMemKill(t *testing.T) {
	m := newMem(4)
	f := write(t, m, "f", "unsynced", 0, false)
	if _, err := m.Lock("LOCK"); err != nil {
		t.Fatal(err)
	}
	next := m.Kill()
	if got, err := next.ReadFile("f", 100); err != nil || string(got) != "unsynced" {
		t.Fatalf("after the kill: %q, %v", got, err)
	}
	if _, err := next.Lock("LOCK"); err != nil {
		t.Fatal(err)
	}
	if err := f.Sync(); !errors.Is(err, ErrPowerOff) {
		t.Fatalf("the dead process synced: %v", err)
	}
}

// TestFailedSyncLosesData: after a failed sync a later one succeeds, and the
// data is gone all the same; Evict shows it.
func TestFailedSyncLosesData(t *testing.T) {
	lost := 0
	for seed := range uint64(40) {
		m := newMem(seed)
		f := NewFault(m)
		file := write(t, f, "f", "old", 0, true)
		if err := m.SyncDir("."); err != nil {
			t.Fatal(err)
		}
		f.Add(Rule{Op: OpSync, Name: "f", Count: 1, Err: errors.New("input/output error")})
		if _, err := file.WriteAt([]byte("new"), 0); err != nil {
			t.Fatal(err)
		}
		if err := file.Sync(); err == nil {
			t.Fatal("the sync did not fail")
		}
		if err := file.Sync(); err != nil {
			t.Fatalf("the second sync failed: %v", err)
		}
		if got, _ := f.ReadFile("f", 10); string(got) != "new" {
			t.Fatalf("the page cache holds %q", got)
		}
		crashed, err := m.Crash().ReadFile("f", 10)
		if err != nil {
			t.Fatal(err)
		}
		if err := file.Evict(); err != nil {
			t.Fatal(err)
		}
		evicted, _ := f.ReadFile("f", 10)
		if !bytes.Equal(crashed, evicted) {
			t.Fatalf("the disk holds %q, after Evict it reads %q", crashed, evicted)
		}
		if string(crashed) == "old" {
			lost++
		}
	}
	if lost == 0 || lost == 40 {
		t.Fatalf("lost in %d of 40 runs", lost)
	}
}

func TestFault(t *testing.T) {
	eio := errors.New("input/output error")
	f := NewFault(newMem(5))
	file := write(t, f, "f", "0123456789", 0, true)
	f.Add(Rule{Op: OpWrite, Name: "f", After: 1, Count: 2, Err: eio, Torn: true})
	for i, want := range []error{nil, eio, eio, nil} {
		if _, err := file.WriteAt([]byte("abcd"), int64(i)*2); !errors.Is(err, want) {
			t.Fatalf("write %d: %v, want %v", i, err, want)
		}
	}
	if got, _ := f.ReadFile("f", 100); string(got) != "ababababcd" {
		t.Fatalf("after torn writes: %q", got)
	}
	slow := 0
	f.Add(Rule{Op: OpSync, Count: 1, Do: func() { slow++ }})
	if err := file.Sync(); err != nil || slow != 1 {
		t.Fatalf("a slow sync: %v, %d calls", err, slow)
	}
	f.ReadOnly()
	for what, err := range map[string]error{
		"write":  f.WriteFile("g", nil),
		"sync":   file.Sync(),
		"mkdir":  f.MkdirAll("d"),
		"remove": f.Remove("f"),
	} {
		if !errors.Is(err, fs.ErrPermission) {
			t.Errorf("%s on a read-only disk: %v", what, err)
		}
	}
	if _, err := f.ReadFile("f", 100); err != nil {
		t.Errorf("read on a read-only disk: %v", err)
	}
	f.Clear()
	if err := f.Remove("f"); err != nil {
		t.Error(err)
	}
}
