//go:build planted_dedup_in_memory

package topics

const plantedDedupInMemory = true
