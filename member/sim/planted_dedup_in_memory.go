//go:build planted_dedup_in_memory

package sim

const planted = "dedup_in_memory"
