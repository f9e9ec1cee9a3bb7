package v1alpha1

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// FieldError says what is wrong with one field.
type FieldError struct {
	// Field is the path of the field, as in spec.nodes[1].port.
	Field string
	// Message says what is wrong and what to write instead.
	Message string
}

// Error returns "field: message".
func (e FieldError) Error() string { return e.Field + ": " + e.Message }

// FieldErrors are all wrong fields of one object. A nil value is no error, but
// converted to the error interface it would not be nil: use Err.
type FieldErrors []FieldError

// Error joins the errors with "; ".
func (errs FieldErrors) Error() string {
	parts := make([]string, len(errs))
	for i, e := range errs {
		parts[i] = e.Error()
	}
	return strings.Join(parts, "; ")
}

// Err returns errs as an error, or nil if there are none.
func (errs FieldErrors) Err() error {
	if len(errs) == 0 {
		return nil
	}
	return errs
}

func (errs *FieldErrors) add(field, format string, args ...any) {
	*errs = append(*errs, FieldError{Field: field, Message: fmt.Sprintf(format, args...)})
}

// notYet refuses a field whose effect is not built yet, unless it holds its
// default.
func notYet[T comparable](errs *FieldErrors, field string, value, byDefault T) {
	if value != byDefault {
		errs.add(field, "is %v; other values than %v are not supported yet", value, byDefault)
	}
}

// inRange refuses a value outside of low to high.
func inRange[T ~int | ~int64](errs *FieldErrors, field string, value, low, high T) {
	if value < low || value > high {
		errs.add(field, "is %v; the range is %v to %v", value, low, high)
	}
}

// oneOf refuses a value that is not in the list.
func oneOf[T ~string](errs *FieldErrors, field string, value T, values ...T) {
	if !slices.Contains(values, value) {
		words := make([]string, len(values))
		for i, v := range values {
			words[i] = string(v)
		}
		errs.add(field, "is %q; write %s", value, strings.Join(words, ", "))
	}
}

// fixed refuses a change of a field that is fixed once applied.
func fixed[T comparable](errs *FieldErrors, field string, value, old T) {
	if value != old {
		errs.add(field, "is fixed once applied: it is %v and cannot become %v", old, value)
	}
}

const (
	namePattern = "1 to 63 of the characters a-z 0-9 -, neither first nor last a -"
	maxName     = 63
)

// validName reports whether s is a DNS label, which every object but a topic
// has as its name: it becomes a folder's name and part of addresses.
func validName(s string) bool {
	if s == "" || len(s) > maxName || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for i := range len(s) {
		if c := s[i]; !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-') {
			return false
		}
	}
	return true
}

// ValidTopicName reports whether a topic may have this name: 1 to 249 of the
// characters A-Z a-z 0-9 . _ -
func ValidTopicName(name string) bool {
	if name == "" || len(name) > maxTopicNameLength {
		return false
	}
	for i := range len(name) {
		c := name[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '_' || c == '-') {
			return false
		}
	}
	return true
}

// validateMeta checks what a person may write into metadata.
func validateMeta(errs *FieldErrors, m *ObjectMeta) {
	validateLabels(errs, "metadata.labels", m.Labels)
	size := 0
	for _, key := range slices.Sorted(maps.Keys(m.Annotations)) {
		if !validLabelKey(key) {
			errs.add("metadata.annotations", "%q is not the name of an annotation, such as team or example.com/team", key)
		}
		size += len(key) + len(m.Annotations[key])
	}
	if size > maxAnnotationBytes {
		errs.add("metadata.annotations", "hold %d bytes; the most is %d", size, maxAnnotationBytes)
	}
}

func validateLabels(errs *FieldErrors, field string, labels map[string]string) {
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		if !validLabelKey(key) {
			errs.add(field, "%q is not the name of a label, such as zone or example.com/zone", key)
		}
		if value := labels[key]; value != "" && !validLabelWord(value) {
			errs.add(field+"."+key, "%q is not the value of a label: it has 1 to 63 of the characters A-Z a-z 0-9 . _ -, the first and last a letter or digit", value)
		}
	}
}

// validLabelKey reports whether s is a word, or a DNS name, a slash and a word,
// as Kubernetes names labels.
func validLabelKey(s string) bool {
	prefix, word, ok := strings.Cut(s, "/")
	if !ok {
		return validLabelWord(s)
	}
	return validHostName(prefix) && validLabelWord(word)
}

func validLabelWord(s string) bool {
	if s == "" || len(s) > maxName || !alphanumeric(s[0]) || !alphanumeric(s[len(s)-1]) {
		return false
	}
	for i := range len(s) {
		if c := s[i]; !(alphanumeric(c) || c == '.' || c == '_' || c == '-') {
			return false
		}
	}
	return true
}

func alphanumeric(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}

// validHostName reports whether s has the form of a DNS name.
func validHostName(s string) bool {
	if s == "" || len(s) > maxHostLength {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if !validName(strings.ToLower(label)) {
			return false
		}
	}
	return true
}
