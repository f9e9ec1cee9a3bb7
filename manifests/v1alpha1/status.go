package v1alpha1

import (
	"errors"
	"fmt"
	"net/http"
)

// Status is the error of the HTTP API, with the JSON of metav1.Status. It is a
// Go error, so a client returns what it decoded.
type Status struct {
	TypeMeta `json:",inline"`
	Metadata ListMeta `json:"metadata"`
	// Status is "Success" or "Failure".
	Status  string         `json:"status,omitempty"`
	Message string         `json:"message,omitempty"`
	Reason  StatusReason   `json:"reason,omitempty"`
	Details *StatusDetails `json:"details,omitempty"`
	// Code is the HTTP status code.
	Code int32 `json:"code,omitempty"`
}

// StatusDetails says what a Status is about.
type StatusDetails struct {
	Name              string        `json:"name,omitempty"`
	Group             string        `json:"group,omitempty"`
	Kind              string        `json:"kind,omitempty"`
	UID               string        `json:"uid,omitempty"`
	Causes            []StatusCause `json:"causes,omitempty"`
	RetryAfterSeconds int32         `json:"retryAfterSeconds,omitempty"`
}

// StatusCause is one wrong field.
type StatusCause struct {
	Reason  string `json:"reason,omitempty"`
	Message string `json:"message,omitempty"`
	Field   string `json:"field,omitempty"`
}

// StatusReason is the error in one word, for programs.
type StatusReason string

// The reasons, with Kubernetes' words and HTTP codes.
const (
	ReasonBadRequest         StatusReason = "BadRequest"
	ReasonForbidden          StatusReason = "Forbidden"
	ReasonNotFound           StatusReason = "NotFound"
	ReasonMethodNotAllowed   StatusReason = "MethodNotAllowed"
	ReasonAlreadyExists      StatusReason = "AlreadyExists"
	ReasonConflict           StatusReason = "Conflict"
	ReasonExpired            StatusReason = "Expired"
	ReasonTooLarge           StatusReason = "RequestEntityTooLarge"
	ReasonInvalid            StatusReason = "Invalid"
	ReasonInternalError      StatusReason = "InternalError"
	ReasonServiceUnavailable StatusReason = "ServiceUnavailable"
	ReasonTimeout            StatusReason = "Timeout"
)

// reasons has the HTTP code of each, and its word outside of /apis.
var reasons = map[StatusReason]struct {
	code int32
	word string
}{
	ReasonBadRequest:         {http.StatusBadRequest, "SYNTAX"},
	ReasonForbidden:          {http.StatusForbidden, "DENIED"},
	ReasonNotFound:           {http.StatusNotFound, "NOT_FOUND"},
	ReasonMethodNotAllowed:   {http.StatusMethodNotAllowed, "METHOD_NOT_ALLOWED"},
	ReasonAlreadyExists:      {http.StatusConflict, "ALREADY_EXISTS"},
	ReasonConflict:           {http.StatusConflict, "CONFLICT"},
	ReasonExpired:            {http.StatusGone, "EXPIRED"},
	ReasonTooLarge:           {http.StatusRequestEntityTooLarge, "TOO_LARGE"},
	ReasonInvalid:            {http.StatusUnprocessableEntity, "INVALID"},
	ReasonInternalError:      {http.StatusInternalServerError, "INTERNAL"},
	ReasonServiceUnavailable: {http.StatusServiceUnavailable, "UNAVAILABLE"},
	ReasonTimeout:            {http.StatusGatewayTimeout, "TIMEOUT"},
}

// Word returns the code word of the reason in an error object,
// {"error":{"code":…}}, which paths outside of /apis answer: that of the text
// protocol where it has one.
func (r StatusReason) Word() string {
	if known, ok := reasons[r]; ok {
		return known.word
	}
	return reasons[ReasonInternalError].word
}

// ReasonOfWord returns the reason that has this word, if one has.
func ReasonOfWord(word string) (StatusReason, bool) {
	for reason, known := range reasons {
		if known.word == word {
			return reason, true
		}
	}
	return "", false
}

// The values of Status.Status.
const (
	StatusSuccess = "Success"
	StatusFailure = "Failure"
)

// Error returns the message.
func (s *Status) Error() string { return s.Message }

// NewStatus returns the failure with the given reason and its HTTP code. The
// code of a reason that is not in the list is 500.
func NewStatus(reason StatusReason, format string, args ...any) *Status {
	code := int32(http.StatusInternalServerError)
	if known, ok := reasons[reason]; ok {
		code = known.code
	}
	return &Status{
		TypeMeta: TypeMeta{APIVersion: "v1", Kind: "Status"},
		Status:   StatusFailure,
		Message:  fmt.Sprintf(format, args...),
		Reason:   reason,
		Code:     code,
	}
}

// NewSuccess returns the Status of a request that succeeded and has no object
// to show, such as a finished deletion.
func NewSuccess(kind, name string) *Status {
	return &Status{
		TypeMeta: TypeMeta{APIVersion: "v1", Kind: "Status"},
		Status:   StatusSuccess,
		Details:  &StatusDetails{Name: name, Group: Group, Kind: Resource(kind)},
		Code:     http.StatusOK,
	}
}

// NotFound says that there is no object of that kind and name.
func NotFound(kind, name string) *Status {
	s := NewStatus(ReasonNotFound, "%s %q not found", Resource(kind), name)
	return s.about(kind, name)
}

// Conflict says that a request is refused in the present state, and why.
func Conflict(kind, name, why string) *Status {
	s := NewStatus(ReasonConflict, "%s %q: %s", Resource(kind), name, why)
	return s.about(kind, name)
}

// Invalid says which fields of an object are wrong. It returns nil if there
// are none.
func Invalid(kind, name string, errs FieldErrors) *Status {
	if len(errs) == 0 {
		return nil
	}
	s := NewStatus(ReasonInvalid, "%s %q is invalid: %s", kind, name, errs.Error())
	s.about(kind, name)
	s.Details.Kind = kind // here Kubernetes names the kind itself
	for _, e := range errs {
		s.Details.Causes = append(s.Details.Causes, StatusCause{Reason: "FieldValueInvalid", Message: e.Message, Field: e.Field})
	}
	return s
}

func (s *Status) about(kind, name string) *Status {
	s.Details = &StatusDetails{Name: name, Group: Group, Kind: Resource(kind)}
	return s
}

// ReasonOf returns the reason of the Status inside err, or "" if there is none.
func ReasonOf(err error) StatusReason {
	var s *Status
	if errors.As(err, &s) {
		return s.Reason
	}
	return ""
}
