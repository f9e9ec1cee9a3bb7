//go:build !planted_truncate_on_crc

package wal

// plantedTruncateOnCRC is a bug that the simulation must find: recovery takes
// damage below the synced-through for the end of the log.
const plantedTruncateOnCRC = false
