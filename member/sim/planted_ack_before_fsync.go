//go:build planted_ack_before_fsync

package sim

const planted = "ack_before_fsync"
