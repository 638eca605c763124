package optimizer

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const (
	userAgent     = "llm-auto-optimizer-go/0.1.0"
	prefix        = "/api/v1"
	maxAnswer     = 32 << 20
	maxConnsAlive = 32
)

// request is a call of the API. Every try of it carries the same header, Idempotency-Key included.
type request struct {
	method string
	path   string // below /api/v1, percent-encoded
	query  url.Values
	header http.Header
	body   []byte
}

// response is an answer as it came, whatever its status but for those that mean an error.
type response struct {
	status int
	header http.Header
	body   []byte
}

// transport is a server, a key, and how patient to be. Safe for concurrent use.
type transport struct {
	http    *http.Client
	owned   bool
	base    string
	key     string
	timeout time.Duration // of one try
	retries int
	invalid error // what is wrong with endpoint or key; no call is made then
}

func newTransport(config Config) *transport {
	t := &transport{
		base:    strings.TrimRight(config.Endpoint, "/"),
		key:     strings.TrimSpace(config.APIKey),
		timeout: config.Timeout,
		retries: max(0, config.Retries),
	}
	if config.HTTPClient != nil {
		given := *config.HTTPClient
		given.Timeout = 0 // it would end streams; every try has a timeout of its own
		t.http = &given
	} else {
		connections := http.DefaultTransport.(*http.Transport).Clone()
		connections.MaxIdleConnsPerHost = maxConnsAlive
		t.http, t.owned = &http.Client{Transport: connections}, true
	}
	address, err := url.Parse(config.Endpoint)
	switch {
	case err != nil || (address.Scheme != "http" && address.Scheme != "https") || address.Hostname() == "":
		t.invalid = fmt.Errorf("optimizer: Config.Endpoint must be an http or https address, not %q", config.Endpoint)
	case strings.ContainsFunc(t.key, func(r rune) bool { return r < ' ' || r > '~' }):
		t.invalid = errors.New("optimizer: Config.APIKey has characters that no key has")
	}
	return t
}

// get is a read.
func get(path string, query url.Values) *request {
	return &request{method: http.MethodGet, path: path, query: query, header: http.Header{}}
}

// post is a write under an Idempotency-Key of its own. It fails where body holds what JSON cannot say.
func post(path string, body any) (*request, error) {
	req, err := withBody(http.MethodPost, path, body)
	if err == nil {
		req.header.Set("Idempotency-Key", randomID())
	}
	return req, err
}

// withBody is a request whose body is JSON.
func withBody(method, path string, body any) (*request, error) {
	encoded, err := json.Marshal(body)
	if err != nil {
		return nil, fmt.Errorf("optimizer: %w", err)
	}
	header := http.Header{"Content-Type": {"application/json"}}
	return &request{method: method, path: path, header: header, body: encoded}, nil
}

// call sends a request, as often as it takes and is allowed, and decodes the answer into out.
func (t *transport) call(ctx context.Context, req *request, out any) error {
	return retrying(ctx, t.retries, func() error {
		answer, err := t.try(ctx, req)
		if err != nil {
			return err
		}
		return decode(answer, out)
	})
}

// try sends a request once, and gives its 2xx or 304 answer.
func (t *transport) try(ctx context.Context, req *request) (*response, error) {
	limited, cancel := context.WithTimeout(ctx, t.timeout)
	defer cancel()
	reply, err := t.open(limited, req)
	if err != nil {
		return nil, t.noAnswer(ctx, req, err)
	}
	defer reply.Body.Close()
	body, err := io.ReadAll(io.LimitReader(reply.Body, maxAnswer))
	if err != nil {
		return nil, t.noAnswer(ctx, req, err)
	}
	answer := &response{status: reply.StatusCode, header: reply.Header, body: body}
	if answer.status/100 != 2 && answer.status != http.StatusNotModified {
		return nil, errorFromAnswer(answer)
	}
	return answer, nil
}

// open sends a request once, and gives the answer with its body unread.
func (t *transport) open(ctx context.Context, req *request) (*http.Response, error) {
	if t.invalid != nil {
		return nil, t.invalid
	}
	address := t.base + prefix + req.path
	if len(req.query) > 0 {
		address += "?" + req.query.Encode()
	}
	sent, err := http.NewRequestWithContext(ctx, req.method, address, bytes.NewReader(req.body))
	if err != nil {
		return nil, err
	}
	sent.Header = req.header.Clone()
	sent.Header.Set("User-Agent", userAgent)
	if sent.Header.Get("Accept") == "" {
		sent.Header.Set("Accept", "application/json")
	}
	if t.key != "" {
		sent.Header.Set("Authorization", "Bearer "+t.key)
	}
	return t.http.Do(sent)
}

// noAnswer is the error of a try that brought none. One that the caller's context ended is not retryable.
func (t *transport) noAnswer(ctx context.Context, req *request, err error) error {
	if t.invalid != nil {
		return t.invalid
	}
	cause := err
	if ctx.Err() != nil {
		cause = context.Cause(ctx)
	}
	return &APIError{
		Code:      ErrNoAnswer.Error(),
		Message:   fmt.Sprintf("%s %s%s: %v", req.method, prefix, req.path, cause),
		Retryable: ctx.Err() == nil,
		cause:     cause,
	}
}

// close lets go of idle connections, unless the HTTP client is the caller's.
func (t *transport) close() {
	if t.owned {
		t.http.CloseIdleConnections()
	}
}

// decode reads the JSON object of an answer.
func decode(answer *response, out any) error {
	if !bytes.HasPrefix(bytes.TrimLeft(answer.body, " \t\r\n"), []byte("{")) {
		return unexpected(answer, "the answer is no JSON object")
	}
	if err := json.Unmarshal(answer.body, out); err != nil {
		return unexpected(answer, err.Error())
	}
	return nil
}

// randomID is 128 random bits in hexadecimal.
func randomID() string {
	var id [16]byte
	if _, err := rand.Read(id[:]); err != nil {
		panic(err) // the system has no randomness at all
	}
	return hex.EncodeToString(id[:])
}
