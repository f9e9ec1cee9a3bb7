//go:build !planted_dedup_in_memory

package topics

// plantedDedupInMemory is a bug that tests build in to see that it is caught:
// ids and producers are kept in memory only, and forgotten by a restart.
const plantedDedupInMemory = false
