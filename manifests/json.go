package manifests

import (
	"bytes"
	"encoding/json"
	"strings"

	"go.yaml.in/yaml/v3"
)

// nestedTooDeep reports whether brackets outside of strings lie more than
// maxDepth deep. The text is valid JSON.
func nestedTooDeep(data []byte) bool {
	depth, inString, escaped := 0, false, false
	for _, c := range data {
		switch {
		case escaped:
			escaped = false
		case inString && c == '\\':
			escaped = true
		case c == '"':
			inString = !inString
		case inString:
		case c == '{' || c == '[':
			if depth++; depth > maxDepth {
				return true
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return false
}

// jsonTree makes of valid JSON the tree that YAML would have made, so that one
// decoder reads both.
func jsonTree(data []byte) *yaml.Node {
	p := &jsonParser{dec: json.NewDecoder(bytes.NewReader(data)), data: data, line: 1}
	p.dec.UseNumber()
	return p.value()
}

type jsonParser struct {
	dec  *json.Decoder
	data []byte
	line int
	at   int64 // lines are counted up to here
}

func (p *jsonParser) value() *yaml.Node {
	token, err := p.dec.Token()
	if err != nil {
		panic("manifests: valid JSON without a token: " + err.Error())
	}
	p.line += bytes.Count(p.data[p.at:p.dec.InputOffset()], []byte("\n"))
	p.at = p.dec.InputOffset()
	n := &yaml.Node{Kind: yaml.ScalarNode, Line: p.line}
	switch t := token.(type) {
	case json.Delim:
		n.Kind = yaml.MappingNode
		if t == '[' {
			n.Kind = yaml.SequenceNode
		}
		for p.dec.More() {
			n.Content = append(n.Content, p.value()) // a mapping's keys come as values, too
		}
		p.dec.Token() // the closing bracket
	case string:
		n.Tag, n.Value = "!!str", t
	case json.Number:
		n.Tag, n.Value = "!!int", t.String()
		if strings.ContainsAny(n.Value, ".eE") {
			n.Tag = "!!float"
		}
	case bool:
		n.Tag, n.Value = "!!bool", "false"
		if t {
			n.Value = "true"
		}
	case nil:
		n.Tag, n.Value = "!!null", "null"
	}
	return n
}
