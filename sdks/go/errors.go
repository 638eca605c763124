package optimizer

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// What [errors.Is] tells apart, one per code of the API, and two for what is no answer of the API.
var (
	ErrInvalidRequest      = errors.New("INVALID_REQUEST")
	ErrUnauthorized        = errors.New("UNAUTHORIZED")
	ErrForbidden           = errors.New("FORBIDDEN")
	ErrNotFound            = errors.New("NOT_FOUND")
	ErrConflict            = errors.New("CONFLICT")
	ErrConstraintViolation = errors.New("CONSTRAINT_VIOLATION")
	ErrRateLimited         = errors.New("RATE_LIMITED")
	ErrInternal            = errors.New("INTERNAL_ERROR")
	ErrOptimizationFailed  = errors.New("OPTIMIZATION_FAILED")
	ErrDeploymentFailed    = errors.New("DEPLOYMENT_FAILED")
	ErrRollbackFailed      = errors.New("ROLLBACK_FAILED")
	ErrDatabase            = errors.New("DATABASE_ERROR")
	ErrServiceUnavailable  = errors.New("SERVICE_UNAVAILABLE")
	ErrServerTimeout       = errors.New("TIMEOUT")
	// ErrNoAnswer: the connection was refused or broke, or the answer took too long.
	ErrNoAnswer = errors.New("NO_ANSWER")
	// ErrUnexpectedAnswer: something answered, but not as the optimizer's API does (a proxy's page, say).
	ErrUnexpectedAnswer = errors.New("UNEXPECTED_ANSWER")
)

// ErrClosed is what a closed client answers.
var ErrClosed = errors.New("optimizer: the client is closed")

// APIError is a call that failed.
type APIError struct {
	// Code is the API's code, NO_ANSWER or UNEXPECTED_ANSWER.
	Code string
	// Status is the HTTP status, 0 where no answer came.
	Status int
	// Message says in words what is wrong.
	Message string
	// Details is what the API adds to its message, if anything: for CONSTRAINT_VIOLATION a [ValidationResult].
	Details json.RawMessage
	// Retryable says whether the same request may succeed later.
	Retryable bool
	// RequestID names the request in the server's log; empty where the server gave none.
	RequestID string
	// RetryAfter is how long the server asks to wait; 0 where it does not say.
	RetryAfter time.Duration

	cause error
}

// Error gives code, message, status and request.
func (e *APIError) Error() string {
	text := fmt.Sprintf("optimizer: %s: %s", e.Code, e.Message)
	if e.Status != 0 {
		text += fmt.Sprintf(" (HTTP %d)", e.Status)
	}
	if e.RequestID != "" {
		text += fmt.Sprintf(" (request %s)", e.RequestID)
	}
	return text
}

// Is makes [errors.Is] compare an error's code with [ErrNotFound] and the others.
func (e *APIError) Is(target error) bool {
	return target == byCode[e.Code]
}

// Unwrap gives what kept an answer from coming, such as [context.Canceled].
func (e *APIError) Unwrap() error { return e.cause }

// RejectedError says that the server took a batch in part: which items it did not take, and why.
type RejectedError struct {
	Accepted int         `json:"accepted"`
	Rejected int         `json:"rejected"`
	Errors   []ItemError `json:"errors,omitempty"`
}

// Error names the first item that was refused.
func (e *RejectedError) Error() string {
	text := fmt.Sprintf("optimizer: %d of %d reports were refused", e.Rejected, e.Accepted+e.Rejected)
	if len(e.Errors) > 0 {
		text += fmt.Sprintf("; item %d: %s", e.Errors[0].Index, e.Errors[0].Reason)
	}
	return text
}

// ItemError says why the item at Index of a batch was not taken.
type ItemError struct {
	Index  int    `json:"index"`
	Reason string `json:"reason"`
}

var byCode = func() map[string]error {
	codes := map[string]error{}
	for _, sentinel := range []error{
		ErrInvalidRequest, ErrUnauthorized, ErrForbidden, ErrNotFound, ErrConflict, ErrConstraintViolation,
		ErrRateLimited, ErrInternal, ErrOptimizationFailed, ErrDeploymentFailed, ErrRollbackFailed, ErrDatabase,
		ErrServiceUnavailable, ErrServerTimeout, ErrNoAnswer, ErrUnexpectedAnswer,
	} {
		codes[sentinel.Error()] = sentinel
	}
	return codes
}()

// errorFromAnswer is the error that a non-2xx answer means.
func errorFromAnswer(answer *response) *APIError {
	var body struct {
		Error struct {
			Code      string
			Message   string
			Details   json.RawMessage
			Retryable bool
		}
		RequestID string
	}
	if json.Unmarshal(answer.body, &body) != nil || body.Error.Code == "" {
		failed := unexpected(answer, fmt.Sprintf("HTTP %d without the API's error format", answer.status))
		switch answer.status {
		case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable,
			http.StatusGatewayTimeout:
			failed.Retryable = true
		}
		return failed
	}
	if body.RequestID == "" {
		body.RequestID = answer.header.Get("X-Request-Id")
	}
	if bytes.Equal(body.Error.Details, []byte("null")) {
		body.Error.Details = nil
	}
	return &APIError{
		Code:       body.Error.Code,
		Status:     answer.status,
		Message:    body.Error.Message,
		Details:    body.Error.Details,
		Retryable:  body.Error.Retryable,
		RequestID:  body.RequestID,
		RetryAfter: parseRetryAfter(answer.header.Get("Retry-After"), time.Now()),
	}
}

// unexpected is the error of an answer that is not the API's.
func unexpected(answer *response, message string) *APIError {
	return &APIError{
		Code:       ErrUnexpectedAnswer.Error(),
		Status:     answer.status,
		Message:    message,
		RequestID:  answer.header.Get("X-Request-Id"),
		RetryAfter: parseRetryAfter(answer.header.Get("Retry-After"), time.Now()),
	}
}
