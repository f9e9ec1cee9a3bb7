package manifests

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"

	"go.yaml.in/yaml/v3"
)

// EncodeJSON writes v, an object or a list, as indented JSON.
func EncodeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "    ")
	return enc.Encode(v)
}

// EncodeYAML writes each value, an object or a list, as a YAML document, with
// the fields in the order of their type.
func EncodeYAML(w io.Writer, values ...any) error {
	for i, v := range values {
		data, err := json.Marshal(v)
		if err != nil {
			return fmt.Errorf("encode as YAML: %w", err)
		}
		if i > 0 {
			if _, err := io.WriteString(w, "---\n"); err != nil {
				return err
			}
		}
		var b bytes.Buffer
		enc := yaml.NewEncoder(&b)
		enc.SetIndent(2)
		if err := enc.Encode(jsonTree(data)); err != nil {
			return fmt.Errorf("encode as YAML: %w", err)
		}
		if err := enc.Close(); err != nil {
			return fmt.Errorf("encode as YAML: %w", err)
		}
		if _, err := w.Write(b.Bytes()); err != nil {
			return err
		}
	}
	return nil
}
