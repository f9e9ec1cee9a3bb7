package batch

// Partition returns which of n partitions a key belongs to: Kafka's murmur2, as
// the Java client's default partitioner applies it. n must be above 0.
func Partition(key []byte, n int) int {
	return int(murmur2(key)&0x7fffffff) % n
}

func murmur2(p []byte) uint32 {
	const m = 0x5bd1e995
	h := 0x9747b28c ^ uint32(len(p))
	for ; len(p) >= 4; p = p[4:] {
		k := uint32(p[0]) | uint32(p[1])<<8 | uint32(p[2])<<16 | uint32(p[3])<<24
		k *= m
		k ^= k >> 24
		h = h*m ^ k*m
	}
	switch len(p) {
	case 3:
		h ^= uint32(p[2]) << 16
		fallthrough
	case 2:
		h ^= uint32(p[1]) << 8
		fallthrough
	case 1:
		h = (h ^ uint32(p[0])) * m
	}
	h = (h ^ h>>13) * m
	return h ^ h>>15
}
