package server

import (
	"math"
	"testing"
)

// The values are those of Kafka's own test of its hash (UtilsTest.testMurmur2).
func TestMurmur2IsKafkas(t *testing.T) {
	for in, want := range map[string]int32{
		"21":                         -973932308,
		"foobar":                     -790332482,
		"a-little-bit-long-string":   -985981536,
		"a-little-bit-longer-string": -1486304829,
		"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
		"abc": 479470107,
	} {
		if got := int32(murmur2([]byte(in))); got != want {
			t.Errorf("murmur2(%q) = %d, want %d", in, got, want)
		}
	}
}

func TestKeysSpreadEvenly(t *testing.T) {
	seen := make([]int, 7)
	for i := range 7000 {
		h := keyHash([]byte{byte(i), byte(i >> 8)})
		if h > math.MaxInt32 {
			t.Fatalf("hash %d is negative to Kafka", h)
		}
		seen[h%7]++
	}
	for p, n := range seen {
		if n < 800 || n > 1200 {
			t.Errorf("partition %d got %d of 7000 keys", p, n)
		}
	}
}
