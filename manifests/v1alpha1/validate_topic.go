package v1alpha1

// Validate returns what is wrong with the topic by itself. An empty namespace
// is accepted: it is filled in while there is only one cluster.
func (t *Topic) Validate() FieldErrors {
	var errs FieldErrors
	if !ValidTopicName(t.Name) {
		errs.add("metadata.name", "%q is not a topic's name: it has 1 to %d of the characters A-Z a-z 0-9 . _ -", t.Name, maxTopicNameLength)
	}
	if t.Namespace != "" && !validName(t.Namespace) {
		errs.add("metadata.namespace", "%q is not the name of a cluster: it has %s", t.Namespace, namePattern)
	}
	validateMeta(&errs, &t.ObjectMeta)
	return append(errs, t.Spec.Validate()...)
}

// Validate returns what is wrong with the spec; the fields are named from
// "spec". A node validates the body of PUT /v1/topics/{t} with it.
func (s *TopicSpec) Validate() FieldErrors {
	var errs FieldErrors
	inRange(&errs, "spec.partitions", s.Partitions, 1, MaxPartitions)
	notYet(&errs, "spec.retention.age", s.Retention.Age, 0)
	notYet(&errs, "spec.retention.bytes", s.Retention.Bytes, 0)
	notYet(&errs, "spec.retention.messages", s.Retention.Messages, 0)
	inRange(&errs, "spec.dedupWindow", s.DedupWindow, 0, MaxDedupWindow)
	inRange(&errs, "spec.maxMessageBytes", s.MaxMessageBytes, 1, MaxMessageBytes)
	oneOf(&errs, "spec.deletionPolicy", s.DeletionPolicy, DeletionRetain, DeletionDelete)
	return errs
}

// ValidateUpdate returns why the topic cannot take the place of old.
func (t *Topic) ValidateUpdate(old *Topic) FieldErrors { return t.Spec.ValidateUpdate(&old.Spec) }

// ValidateUpdate returns why the spec cannot take the place of old.
func (s *TopicSpec) ValidateUpdate(old *TopicSpec) FieldErrors {
	var errs FieldErrors
	if s.Partitions < old.Partitions {
		errs.add("spec.partitions", "is %d and can only grow, not become %d: the messages of a removed partition would be lost", old.Partitions, s.Partitions)
	}
	return errs
}
