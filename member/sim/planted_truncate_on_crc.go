//go:build planted_truncate_on_crc

package sim

const planted = "truncate_on_crc"
