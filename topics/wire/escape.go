package wire

const hexDigits = "0123456789ABCDEF"

// plain reports whether c stands for itself in an option's value.
func plain(c byte) bool { return c > ' ' && c < 0x7f && c != '%' }

// appendEscaped appends s with space, %, control and non-ASCII bytes as %XX.
func appendEscaped[T string | []byte](dst []byte, s T) []byte {
	from := 0
	for i := range len(s) {
		if c := s[i]; !plain(c) {
			dst = append(dst, s[from:i]...)
			dst = append(dst, '%', hexDigits[c>>4], hexDigits[c&15])
			from = i + 1
		}
	}
	return append(dst, s[from:]...)
}

// appendEscapedName is appendEscaped for what stands left of an equals sign.
func appendEscapedName(dst, s []byte) []byte {
	for _, c := range s {
		if plain(c) && c != '=' {
			dst = append(dst, c)
		} else {
			dst = append(dst, '%', hexDigits[c>>4], hexDigits[c&15])
		}
	}
	return dst
}

// appendUnescaped appends s with %XX decoded; ok is false if s holds a byte that
// had to be encoded, or a % without two hexadecimal digits.
func appendUnescaped(dst, s []byte) (out []byte, ok bool) {
	from := 0
	for i := 0; i < len(s); i++ {
		c := s[i]
		if plain(c) {
			continue
		}
		if c != '%' || i+2 >= len(s) {
			return dst, false
		}
		hi, lo := unhex(s[i+1]), unhex(s[i+2])
		if hi > 15 || lo > 15 {
			return dst, false
		}
		dst = append(dst, s[from:i]...)
		dst = append(dst, hi<<4|lo)
		i += 2
		from = i + 1
	}
	return append(dst, s[from:]...), true
}

func unhex(c byte) byte {
	switch {
	case c >= '0' && c <= '9':
		return c - '0'
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10
	case c >= 'A' && c <= 'F':
		return c - 'A' + 10
	}
	return 0xff
}
