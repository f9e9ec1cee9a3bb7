package v1alpha1

import "strings"

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

// Validate returns what is wrong with the cluster by itself, in the order of
// the fields. Call Default before.
func (c *Cluster) Validate() FieldErrors { return nil }

// ValidateStored returns what is wrong with a cluster that is about to be
// stored, beyond Validate: its data root must be absolute by now.
func (c *Cluster) ValidateStored() FieldErrors { return nil }

// ValidateUpdate returns why the cluster cannot take the place of old. Both
// have their defaults and are valid by themselves.
func (c *Cluster) ValidateUpdate(old *Cluster) FieldErrors { return nil }

// ValidateAmong returns why the cluster cannot live beside the others: a port
// or a data folder that one of them uses, named. A cluster of the same name
// among the others is skipped.
func (c *Cluster) ValidateAmong(others []Cluster) FieldErrors { return nil }

// Validate returns what is wrong with the topic by itself. An empty namespace
// is accepted: it is filled in while there is only one cluster.
func (t *Topic) Validate() FieldErrors { return nil }

// Validate returns what is wrong with the spec; the fields are named from
// "spec". A node validates the body of PUT /v1/topics/{t} with it.
func (s *TopicSpec) Validate() FieldErrors { return nil }

// ValidateUpdate returns why the topic cannot take the place of old.
func (t *Topic) ValidateUpdate(old *Topic) FieldErrors { return nil }

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
