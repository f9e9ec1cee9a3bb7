package batch

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"hash/crc32"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files anew")

// some returns random records; the seed names them.
func some(rng *rand.Rand, n int) []Record {
	blob := func(most int) []byte {
		switch rng.IntN(5) {
		case 0:
			return nil
		case 1:
			return []byte{}
		}
		p := make([]byte, rng.IntN(most)+1)
		for i := range p {
			p[i] = byte(rng.Uint32())
		}
		return p
	}
	records := make([]Record, n)
	for i := range records {
		r := &records[i]
		r.Key, r.ID, r.Value = blob(200), blob(20), blob(3000)
		r.Timestamp = 1_795_341_600_000 + rng.Int64N(20_000) - 10_000
		for range rng.IntN(4) {
			r.Headers = append(r.Headers, Header{append([]byte("h"), blob(40)...), blob(100)})
		}
	}
	return records
}

func same(a, b []byte) bool { return bytes.Equal(a, b) && (a == nil) == (b == nil) }

func wantRecords(t *testing.T, got Batch, want []Record, maxBytes int) {
	t.Helper()
	it := Iterate(got, maxBytes)
	n := 0
	for it.Next() {
		g, w := it.Record(), &want[n]
		if !same(g.Key, w.Key) || !same(g.ID, w.ID) || !same(g.Value, w.Value) ||
			g.Timestamp != w.Timestamp || int(g.OffsetDelta) != n || len(g.Headers) != len(w.Headers) || g.Bytes() != w.Bytes() {
			t.Fatalf("record %d: got %+v, want %+v", n, g, w)
		}
		for i := range g.Headers {
			if !same(g.Headers[i].Name, w.Headers[i].Name) || !same(g.Headers[i].Value, w.Headers[i].Value) {
				t.Fatalf("record %d header %d: got %q, want %q", n, i, g.Headers[i], w.Headers[i])
			}
		}
		n++
	}
	if err := it.Err(); err != nil || n != len(want) {
		t.Fatalf("read %d of %d records: %v", n, len(want), err)
	}
}

func TestRoundTrip(t *testing.T) {
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 1))
		records := some(rng, 1+rng.IntN(20))
		prefix := []byte("before")
		out, err := Build(bytes.Clone(prefix), records)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if !bytes.HasPrefix(out, prefix) {
			t.Fatalf("seed %d: Build overwrote what was before it", seed)
		}
		b := Batch(out[len(prefix):])
		if err := Check(b, Limits{}); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		wantRecords(t, b, records, 0)
		if one := AppendRecord(nil, &records[0]); len(records) == 1 && !bytes.Equal(one, b) {
			t.Fatalf("seed %d: AppendRecord and Build differ:\n%x\n%x", seed, one, b)
		}
		if b.ProducerID() != -1 || b.ProducerEpoch() != -1 || b.BaseSequence() != -1 || b.LeaderEpoch() != -1 || b.BaseOffset() != 0 {
			t.Fatalf("seed %d: header %x", seed, b[:HeaderBytes])
		}
	}
}

func TestBaseIsFree(t *testing.T) {
	b := Batch(AppendRecord(nil, &Record{Value: []byte("v")}))
	before := bytes.Clone(b)
	b.SetBase(1<<40+7, 99)
	if err := Check(b, Limits{}); err != nil {
		t.Fatalf("after SetBase: %v", err)
	}
	if b.BaseOffset() != 1<<40+7 || b.LeaderEpoch() != 99 {
		t.Fatalf("base %d epoch %d", b.BaseOffset(), b.LeaderEpoch())
	}
	if !bytes.Equal(b[atMagic:], before[atMagic:]) || !bytes.Equal(b[atLength:atLeaderEpoch], before[atLength:atLeaderEpoch]) {
		t.Fatal("SetBase changed more than base offset and leader epoch")
	}
}

// sealed makes size and CRC right again after a test has changed b.
func sealed(b []byte) []byte {
	binary.BigEndian.PutUint32(b[atLength:], uint32(len(b)-PrefixBytes))
	binary.BigEndian.PutUint32(b[atCRC:], crc32.Checksum(b[atAttributes:], castagnoli))
	return b
}

func TestCheckRefuses(t *testing.T) {
	records := []Record{{Key: []byte("k"), Value: []byte("value"), Headers: []Header{{[]byte("a"), []byte("b")}}}, {Value: []byte("w")}}
	good, err := Build(nil, records)
	if err != nil {
		t.Fatal(err)
	}
	set := func(at int, v ...byte) func([]byte) []byte {
		return func(b []byte) []byte { copy(b[at:], v); return sealed(b) }
	}
	tests := []struct {
		name   string
		change func([]byte) []byte
		limits Limits
		want   error
	}{
		{"nothing wrong", func(b []byte) []byte { return b }, Limits{}, nil},
		{"empty", func(b []byte) []byte { return nil }, Limits{}, ErrCorrupt},
		{"a cut header", func(b []byte) []byte { return b[:HeaderBytes-1] }, Limits{}, ErrCorrupt},
		{"a cut record", func(b []byte) []byte { return b[:len(b)-1] }, Limits{}, ErrCorrupt},
		{"a byte too many", func(b []byte) []byte { return append(b, 0) }, Limits{}, ErrCorrupt},
		{"a byte too many, sealed", func(b []byte) []byte { return sealed(append(b, 0)) }, Limits{}, ErrCorrupt},
		{"a flipped bit in a value", func(b []byte) []byte { b[len(b)-3] ^= 4; return b }, Limits{}, ErrCorrupt},
		{"a flipped bit in the attributes", func(b []byte) []byte { b[atAttributes] ^= 4; return b }, Limits{}, ErrCorrupt},
		{"magic 1", set(atMagic, 1), Limits{}, ErrUnsupported},
		{"a control batch", set(atAttributes+1, attrControl), Limits{}, ErrUnsupported},
		{"a transaction", set(atAttributes+1, attrTransactional), Limits{}, ErrUnsupported},
		{"log append time", set(atAttributes+1, attrLogAppendTime), Limits{}, ErrUnsupported},
		{"an unused attribute", set(atAttributes, 1), Limits{}, ErrUnsupported},
		{"codec 5", set(atAttributes+1, 5), Limits{}, ErrUnsupported},
		{"no record", set(atCount, 0, 0, 0, 0), Limits{}, ErrCorrupt},
		{"a negative count", set(atCount, 0xff, 0xff, 0xff, 0xff), Limits{}, ErrCorrupt},
		{"a count that is not lastOffsetDelta+1", set(atCount, 0, 0, 0, 3), Limits{}, ErrCorrupt},
		{"fewer records than stated", func(b []byte) []byte { set(atLastDelta, 0, 0, 0, 2)(b); return set(atCount, 0, 0, 0, 3)(b) }, Limits{}, ErrCorrupt},
		{"more records than stated", func(b []byte) []byte { set(atLastDelta, 0, 0, 0, 0)(b); return set(atCount, 0, 0, 0, 1)(b) }, Limits{}, ErrCorrupt},
		{"a record of a wrong length", set(HeaderBytes, 0x7e), Limits{}, ErrCorrupt},
		{"a repeated offset delta", set(len(good)-5, 0), Limits{}, ErrCorrupt},
		{"a batch over the limit", func(b []byte) []byte { return b }, Limits{Bytes: len(good) - 1}, ErrTooLarge},
		{"a batch at the limit", func(b []byte) []byte { return b }, Limits{Bytes: len(good)}, nil},
		{"too many records", func(b []byte) []byte { return b }, Limits{Records: 1}, ErrTooLarge},
		{"a record over the limit", func(b []byte) []byte { return b }, Limits{RecordBytes: records[0].Bytes() - 1}, ErrTooLarge},
		{"a record at the limit", func(b []byte) []byte { return b }, Limits{RecordBytes: records[0].Bytes()}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := Check(tt.change(bytes.Clone(good)), tt.limits)
			if tt.want == nil && err != nil || tt.want != nil && !errors.Is(err, tt.want) {
				t.Errorf("Check: %v, want %v", err, tt.want)
			}
		})
	}
}

// zipped returns b with its records compressed.
func zipped(t testing.TB, b []byte) Batch {
	var out bytes.Buffer
	out.Write(b[:HeaderBytes])
	z := gzip.NewWriter(&out)
	if _, err := z.Write(b[HeaderBytes:]); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	p := out.Bytes()
	p[atAttributes+1] = byte(Gzip)
	return sealed(p)
}

func TestAGzipBatchIsReadWithinItsLimit(t *testing.T) {
	records := []Record{{Value: bytes.Repeat([]byte("wide "), 10_000)}, {Value: []byte("w")}}
	plain, _ := Build(nil, records)
	b := zipped(t, plain)
	if err := Check(b, Limits{}); err != nil {
		t.Fatal(err)
	}
	wantRecords(t, b, records, len(plain)-HeaderBytes)
	it := Iterate(b, len(plain)-HeaderBytes-1)
	if it.Next() || !errors.Is(it.Err(), ErrTooLarge) {
		t.Fatalf("one byte less: %v", it.Err())
	}
	b[len(b)-9] ^= 1
	it = Iterate(b, 1<<20)
	for it.Next() {
	}
	if !errors.Is(it.Err(), ErrCorrupt) {
		t.Fatalf("damaged gzip: %v", it.Err())
	}
}

func TestOtherCodecsAreKeptAndNamed(t *testing.T) {
	for _, c := range []Codec{Snappy, LZ4, Zstd} {
		b := AppendRecord(nil, &Record{Value: []byte("v")})
		b[atAttributes+1] = byte(c)
		if err := Check(sealed(b), Limits{}); err != nil {
			t.Errorf("%v: Check: %v", c, err)
		}
		it := Iterate(b, 1<<20)
		if it.Next() || !errors.Is(it.Err(), ErrUnsupported) || !strings.Contains(it.Err().Error(), c.String()) {
			t.Errorf("%v: Iterate: %v", c, it.Err())
		}
	}
}

// allocated returns how many bytes f allocates.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// TestBounded states lengths and numbers of 2 GB where a few bytes follow: that
// is found out before memory is taken for them.
func TestBounded(t *testing.T) {
	const much = math.MaxInt32
	varints := func(vs ...int64) (p []byte) {
		for _, v := range vs {
			p = binary.AppendVarint(p, v)
		}
		return p
	}
	record := func(body ...byte) []byte { return append(varints(int64(len(body))), body...) }
	begin := func(fields ...int64) []byte { return append([]byte{0}, varints(fields...)...) } // attributes, time, offset delta, …
	wide, _ := Build(nil, []Record{{Value: make([]byte, 64<<20)}})
	bomb := zipped(t, wide)
	for _, tc := range []struct {
		name  string
		count int
		attr  byte
		body  []byte
		want  error
	}{
		{"number of records", much, 0, record(begin(0, 0, -1, -1, 0)...), ErrCorrupt},
		{"length of a record", 1, 0, varints(much, 0), ErrCorrupt},
		{"length of a key", 1, 0, record(begin(0, 0, much)...), ErrCorrupt},
		{"length of a value", 1, 0, record(begin(0, 0, -1, much)...), ErrCorrupt},
		{"number of headers", 1, 0, record(begin(0, 0, -1, -1, much)...), ErrCorrupt},
		{"length of a header's name", 1, 0, record(begin(0, 0, -1, -1, 1, much, 0)...), ErrCorrupt},
		{"length of a header's value", 1, 0, record(begin(0, 0, -1, -1, 1, 0, much)...), ErrCorrupt},
		{"unpacked records", 1, byte(Gzip), bomb[HeaderBytes:], ErrTooLarge},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := append(appendHeader(nil), tc.body...)
			b[atAttributes+1] = tc.attr
			binary.BigEndian.PutUint32(b[atLastDelta:], uint32(tc.count-1))
			binary.BigEndian.PutUint32(b[atCount:], uint32(tc.count))
			sealed(b)
			var checked, read error
			n := allocated(func() {
				checked = Check(b, Limits{Records: much})
				it := Iterate(b, 1000)
				for it.Next() {
				}
				read = it.Err()
			})
			if !errors.Is(read, tc.want) || tc.attr == 0 && !errors.Is(checked, tc.want) {
				t.Errorf("Check: %v; Iterate: %v; want %v", checked, read, tc.want)
			}
			if n > 256<<10 {
				t.Errorf("%d bytes were allocated for a batch of %d", n, len(b))
			}
		})
	}
}

func TestBuildNeedsARecord(t *testing.T) {
	if out, err := Build([]byte("x"), nil); err == nil || string(out) != "x" {
		t.Fatalf("%q, %v", out, err)
	}
}

// The values are those of Kafka's own UtilsTest.
func TestMurmur2IsKafkas(t *testing.T) {
	for key, want := range map[string]int32{
		"21": -973932308, "foobar": -790332482, "a-little-bit-long-string": -985981536,
		"a-little-bit-longer-string": -1486304829, "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
		"abc": 479470107,
	} {
		if got := int32(murmur2([]byte(key))); got != want {
			t.Errorf("murmur2(%q) = %d, want %d", key, got, want)
		}
	}
	if got := Partition([]byte("21"), 7); got != int((uint32(0x100000000-973932308)&0x7fffffff)%7) {
		t.Errorf("Partition = %d", got)
	}
}

// A change of these bytes is a change of the format on disk.
func TestGolden(t *testing.T) {
	corpus := []struct {
		name    string
		records []Record
	}{
		{"one", []Record{{Value: []byte("hello"), Timestamp: 1_795_341_600_123}}},
		{"empty", []Record{{Value: []byte{}, Timestamp: 1_795_341_600_123}}},
		{"full", []Record{{Key: []byte("k"), ID: []byte("id-1"), Value: []byte("v"), Timestamp: 1_795_341_600_123,
			Headers: []Header{{[]byte("trace"), []byte("1f")}, {[]byte("null"), nil}}}}},
		{"three", []Record{{Value: []byte("a"), Timestamp: 5}, {Timestamp: 3}, {Key: []byte{}, Value: []byte("c"), Timestamp: 9}}},
	}
	for _, c := range corpus {
		b, err := Build(nil, c.records)
		if err != nil {
			t.Fatal(err)
		}
		got := fmt.Sprintf("%x\n%x\n", b[:HeaderBytes], b[HeaderBytes:])
		file := filepath.Join("testdata", c.name+".hex")
		if *update {
			if err := os.MkdirAll("testdata", 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("%s:\n%swant\n%s", file, got, want)
		}
	}
}

func TestTheHotPathDoesNotAllocate(t *testing.T) {
	r := &Record{Key: []byte("key"), ID: []byte("id"), Value: make([]byte, 128), Headers: []Header{{[]byte("a"), []byte("b")}}}
	buf := AppendRecord(nil, r)
	if n := testing.AllocsPerRun(100, func() {
		buf = AppendRecord(buf[:0], r)
		if Check(buf, Limits{}) != nil {
			panic("bad batch")
		}
		Batch(buf).SetBase(7, 1)
	}); n != 0 {
		t.Errorf("%v allocations per message", n)
	}
}

func BenchmarkAppendRecord(b *testing.B) {
	for _, size := range []int{128, 4096} {
		b.Run(fmt.Sprintf("bytes=%d", size), func(b *testing.B) {
			r := &Record{Value: make([]byte, size)}
			var buf []byte
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				buf = AppendRecord(buf[:0], r)
			}
		})
	}
}

func BenchmarkCheck(b *testing.B) {
	for _, size := range []int{128, 4096} {
		b.Run(fmt.Sprintf("bytes=%d", size), func(b *testing.B) {
			buf := AppendRecord(nil, &Record{Value: make([]byte, size)})
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				if err := Check(buf, Limits{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
