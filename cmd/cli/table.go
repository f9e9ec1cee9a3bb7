package cli

import (
	"io"
	"strings"
	"unicode/utf8"
)

// columnGap is what stands between two columns of a table.
const columnGap = "   "

// table prints rows as aligned columns: upper-case headers, three spaces
// between columns, no borders. An empty cell is printed as <none>.
type table struct {
	header []string
	rows   [][]string
	widths []int // the least width of each column; nil: none
}

func newTable(header ...string) *table { return &table{header: header} }

func (t *table) add(cells ...string) { t.rows = append(t.rows, cells) }

// print writes the table to w, without its header line if noHeaders.
func (t *table) print(w io.Writer, noHeaders bool) error {
	lines := make([][]string, 0, len(t.rows)+1)
	if !noHeaders {
		lines = append(lines, t.header)
	}
	for _, row := range t.rows {
		shown := make([]string, len(row))
		for i, cell := range row {
			shown[i] = cell
			if cell == "" {
				shown[i] = "<none>"
			}
		}
		lines = append(lines, shown)
	}
	widths := make([]int, len(t.header))
	copy(widths, t.widths)
	for _, line := range lines {
		for i, cell := range line {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	var b strings.Builder
	for _, line := range lines {
		for i, cell := range line {
			b.WriteString(cell)
			if i == len(line)-1 {
				break
			}
			b.WriteString(strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell)))
			b.WriteString(columnGap)
		}
		b.WriteByte('\n')
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// indented writes the table below a heading, with a line under each header.
func (t *table) indented(b *strings.Builder) {
	ruled := &table{header: t.header}
	rule := make([]string, len(t.header))
	for i, name := range t.header {
		rule[i] = strings.Repeat("-", utf8.RuneCountInString(name))
	}
	ruled.rows = append([][]string{rule}, t.rows...)
	var text strings.Builder
	_ = ruled.print(&text, false) // a Builder takes everything
	for line := range strings.SplitSeq(strings.TrimRight(text.String(), "\n"), "\n") {
		b.WriteString("  " + strings.TrimRight(line, " ") + "\n")
	}
}
