package cli

import (
	"bufio"
	"errors"
	"fmt"
	"io"
)

// lineReader cuts a stream into lines at LF and nowhere else: CR stays, an
// empty line is a line, and the last one needs no LF.
type lineReader struct {
	r      *bufio.Reader
	max    int // the longest line, in bytes
	number int // of the line that was returned last, from 1
}

func newLineReader(r io.Reader, max int) *lineReader {
	return &lineReader{r: bufio.NewReaderSize(r, 64<<10), max: max}
}

// lineTooLongError names the line that is over the maximum.
type lineTooLongError struct{ number, max int }

func (e *lineTooLongError) Error() string {
	return fmt.Sprintf("line %d is longer than the maximum of %d bytes", e.number, e.max)
}

// next returns the next line without its LF; the caller owns it. At the end it
// returns io.EOF. Memory follows what was read, up to max.
func (l *lineReader) next() ([]byte, error) {
	var line []byte
	l.number++
	for {
		part, err := l.r.ReadSlice('\n')
		length := len(line) + len(part)
		if err == nil {
			length--
		}
		if length > l.max {
			return nil, &lineTooLongError{l.number, l.max}
		}
		switch {
		case err == nil:
			return append(line, part[:len(part)-1]...), nil
		case errors.Is(err, bufio.ErrBufferFull):
			line = append(line, part...)
		case errors.Is(err, io.EOF):
			line = append(line, part...)
			if len(line) == 0 {
				return nil, io.EOF
			}
			return line, nil
		default:
			return nil, fmt.Errorf("read line %d: %w", l.number, err)
		}
	}
}
