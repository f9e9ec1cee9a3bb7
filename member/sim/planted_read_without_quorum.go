//go:build planted_read_without_quorum

package sim

const planted = "read_without_quorum"
