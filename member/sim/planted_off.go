//go:build !(planted_ack_before_fsync || planted_dedup_in_memory || planted_vote_not_persisted || planted_truncate_on_crc || planted_read_without_quorum)

package sim

// planted names the bug that was built in on purpose; none.
const planted = ""
