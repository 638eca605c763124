package optimizer

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const (
	// streamSilence is how long a stream may say nothing; the server sends a comment every 15 s.
	streamSilence = 45 * time.Second
	// steadyStream is how long a stream must have lasted to be opened again at once.
	steadyStream = 5 * time.Second
	firstPause   = time.Second
	maxEvent     = 4 << 20
)

// keepFresh reads the scope's configuration, then follows the stream; where there is none, or where it breaks,
// it reads again: after the poll interval, or sooner while that fails.
func (e *entry) keepFresh(ctx context.Context) {
	defer e.finish()
	logger := e.owner.logger.With("service", e.scope.Service, "endpoint", e.scope.Endpoint)
	failures := 0
	for ctx.Err() == nil {
		err := e.refresh(ctx)
		e.settle(err)
		switch {
		case err != nil && ctx.Err() == nil:
			logger.Warn("configuration not refreshed, the last one holds", "error", err)
		case err == nil && e.owner.streaming:
			opened := time.Now()
			err = e.stream(ctx)
			if time.Since(opened) >= steadyStream {
				failures = 0
			}
			logger.Debug("no stream of configurations", "error", err)
		}
		if err == nil {
			failures = 0
		} else {
			failures++
		}
		e.pause(ctx, failures, err)
	}
}

// pause waits until the next try is due or wanted.
func (e *entry) pause(ctx context.Context, failures int, err error) {
	wait := e.owner.poll
	if failures > 0 {
		wait = backoff(failures-1, min(firstPause, wait), wait)
	}
	var failed *APIError
	if errors.As(err, &failed) {
		wait = max(wait, failed.RetryAfter)
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-e.wanted:
	case <-ctx.Done():
	}
}

// refresh asks for the configuration, or for whether it has changed. The first one is tried as often as any
// call, unless there is something else to serve.
func (e *entry) refresh(ctx context.Context) error {
	known := e.answer.Load()
	retries := e.owner.transport.retries
	if known != nil || e.owner.lastKnown(e.scope) != nil {
		retries = 0
	}
	path, query := "/config/current", e.query()
	if e.scope.Service != "" {
		path = "/config/service/" + url.PathEscape(e.scope.Service)
		query.Del("service")
	}
	req := get(path, query)
	if known != nil && known.etag != "" {
		req.header.Set("If-None-Match", known.etag)
	}
	return retrying(ctx, retries, func() error {
		answer, err := e.owner.transport.try(ctx, req)
		if err != nil || answer.status == http.StatusNotModified {
			return err
		}
		now := time.Now()
		changed, err := parseScopeAnswer(answer, serverClock(answer.header, now), now)
		if err == nil {
			e.store(changed)
		}
		return err
	})
}

// query asks under this instance's own unit, which keeps the answer the same between changes; the units of
// single calls are assigned from the rollout that the answer carries.
func (e *entry) query() url.Values {
	query := url.Values{"unit": {e.owner.instance}}
	if e.scope.Service != "" {
		query.Set("service", e.scope.Service)
	}
	if e.scope.Endpoint != "" {
		query.Set("endpoint", e.scope.Endpoint)
	}
	return query
}

// stream follows the scope's server-sent events for as long as they come, and says why they do not any more.
func (e *entry) stream(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	silence := time.AfterFunc(e.owner.transport.timeout, cancel)
	defer silence.Stop()

	req := get("/config/stream", e.query())
	req.header.Set("Accept", "text/event-stream")
	req.header.Set("Accept-Encoding", "identity")
	req.header.Set("Cache-Control", "no-cache")
	reply, err := e.owner.transport.open(ctx, req)
	if err != nil {
		return e.owner.transport.noAnswer(ctx, req, err)
	}
	defer reply.Body.Close()
	answer := &response{status: reply.StatusCode, header: reply.Header}
	if reply.StatusCode != http.StatusOK {
		answer.body, _ = io.ReadAll(io.LimitReader(reply.Body, maxAnswer))
		return errorFromAnswer(answer)
	}
	if !strings.HasPrefix(reply.Header.Get("Content-Type"), "text/event-stream") {
		return unexpected(answer, "the answer is no stream of events")
	}
	opened := time.Now()
	ahead := serverClock(reply.Header, opened).Sub(opened)

	began := false
	err = readEvents(reply.Body, func(event, data string) error {
		if event == "config" {
			now := time.Now()
			answer.body = []byte(data)
			changed, err := parseScopeAnswer(answer, now.Add(ahead), now)
			if err != nil {
				return err
			}
			began = true
			e.store(changed)
		}
		return nil
	}, func() {
		if began { // a proxy that holds events back shows by none having come in time
			silence.Reset(streamSilence)
		}
	})
	return e.owner.transport.noAnswer(ctx, req, err)
}

// readEvents parses server-sent events (WHATWG HTML, 9.2.6) until the body ends, which is io.EOF, or handle
// fails. heard is called for every line, comments included.
func readEvents(body io.Reader, handle func(event, data string) error, heard func()) error {
	lines := bufio.NewScanner(body)
	lines.Buffer(make([]byte, 0, 4096), maxEvent)
	event, data := "", []string{}
	for lines.Scan() {
		line := lines.Text() // without its end, LF or CRLF
		if line == "" {
			if len(data) > 0 {
				if err := handle(event, strings.Join(data, "\n")); err != nil {
					return err
				}
			}
			event, data = "", data[:0]
		}
		field, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch field {
		case "event":
			event = value
		case "data":
			data = append(data, value)
		}
		heard()
	}
	if lines.Err() != nil {
		return lines.Err()
	}
	return io.EOF
}
