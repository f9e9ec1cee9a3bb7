package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"k8s.io/client-go/util/jsonpath"
)

// objectOutputs are the values of -o of the commands that print objects.
const objectOutputs = "wide json yaml name jsonpath"

// printJSON prints a JSON value, indented as kubectl indents it.
func printJSON(w io.Writer, value []byte) error {
	var b bytes.Buffer
	if err := json.Indent(&b, value, "", "    "); err != nil {
		return err
	}
	b.WriteByte('\n')
	_, err := w.Write(b.Bytes())
	return err
}

// printJSONPath prints what a template selects of a JSON value. As in kubectl,
// the braces of a template that is one expression may be left out.
func printJSONPath(w io.Writer, template string, value []byte) error {
	if template == "" {
		return fmt.Errorf("-o jsonpath needs a template, as in -o jsonpath='{.status.phase}'")
	}
	path := jsonpath.New("output").AllowMissingKeys(true)
	if err := path.Parse(relaxed(template)); err != nil {
		return fmt.Errorf("-o jsonpath=%s: %w", template, err)
	}
	decoder := json.NewDecoder(bytes.NewReader(value))
	var data any
	if err := decoder.Decode(&data); err != nil {
		return err
	}
	var b bytes.Buffer
	if err := path.Execute(&b, data); err != nil {
		return fmt.Errorf("-o jsonpath=%s: %w", template, err)
	}
	_, err := w.Write(b.Bytes())
	return err
}

// relaxed puts braces around a template without any, and a dot in front of a
// bare path.
func relaxed(template string) string {
	if strings.Contains(template, "{") {
		return template
	}
	if !strings.HasPrefix(template, ".") && !strings.HasPrefix(template, "[") && !strings.HasPrefix(template, "$") {
		template = "." + template
	}
	return "{" + template + "}"
}
