package v1alpha1

// ConditionStatus is one of True, False and Unknown.
type ConditionStatus string

// The values of a condition.
const (
	ConditionTrue    ConditionStatus = "True"
	ConditionFalse   ConditionStatus = "False"
	ConditionUnknown ConditionStatus = "Unknown"
)

// Condition is one aspect of an object's state, with the JSON names and the
// meaning of metav1.Condition. It is to be trusted only if ObservedGeneration is
// the object's generation.
type Condition struct {
	Type               string          `json:"type"`
	Status             ConditionStatus `json:"status"`
	ObservedGeneration int64           `json:"observedGeneration,omitempty"`
	// LastTransitionTime is when Status last changed.
	LastTransitionTime Time `json:"lastTransitionTime"`
	// Reason is one CamelCase word for programs, Message a sentence for people.
	Reason  string `json:"reason"`
	Message string `json:"message"`
}

// SetCondition puts c into conditions, in place of the one of the same type. If
// the status did not change, the old LastTransitionTime stays; otherwise c's
// counts. It reports whether anything changed.
func SetCondition(conditions *[]Condition, c Condition) bool {
	for i := range *conditions {
		old := &(*conditions)[i]
		if old.Type != c.Type {
			continue
		}
		if old.Status == c.Status {
			c.LastTransitionTime = old.LastTransitionTime
		}
		if *old == c {
			return false
		}
		*old = c
		return true
	}
	*conditions = append(*conditions, c)
	return true
}

// FindCondition returns the condition of the given type, or nil. The result
// points into conditions.
func FindCondition(conditions []Condition, conditionType string) *Condition {
	for i := range conditions {
		if conditions[i].Type == conditionType {
			return &conditions[i]
		}
	}
	return nil
}

// IsConditionTrue reports whether the condition of the given type is there and
// True.
func IsConditionTrue(conditions []Condition, conditionType string) bool {
	c := FindCondition(conditions, conditionType)
	return c != nil && c.Status == ConditionTrue
}
