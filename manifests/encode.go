package manifests

import (
	"bytes"
	"encoding/json"
	"errors"
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
		text, err := JSONToYAML(data)
		if err != nil {
			return err
		}
		if i > 0 {
			text = append([]byte("---\n"), text...)
		}
		if _, err := w.Write(text); err != nil {
			return err
		}
	}
	return nil
}

// JSONToYAML returns a JSON value as a YAML document, with the fields in the
// same order.
func JSONToYAML(data []byte) ([]byte, error) {
	if !json.Valid(data) {
		return nil, errors.New("encode as YAML: the value is not JSON")
	}
	if nestedTooDeep(data) {
		return nil, fmt.Errorf("encode as YAML: values lie inside each other more than %d deep", maxDepth)
	}
	var b bytes.Buffer
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(2)
	if err := enc.Encode(jsonTree(data)); err != nil {
		return nil, fmt.Errorf("encode as YAML: %w", err)
	}
	if err := enc.Close(); err != nil {
		return nil, fmt.Errorf("encode as YAML: %w", err)
	}
	return b.Bytes(), nil
}
