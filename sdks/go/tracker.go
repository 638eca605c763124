package optimizer

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
)

const failedStatus = 500

// RequestTracker times one LLM call and reports it: [RequestTracker.Done] in the background,
// [RequestTracker.Report] at once. The first of them counts, what follows does nothing.
//
// Provider, model and version are those of the configuration that [RequestTracker.Config] gave or
// [RequestTracker.SetConfig] was told; failing that, Report and [Client.Track] take the one that was handed out
// last for the service in their call context (see [Client.ReportMetricsBatch]). A call without an error needs its
// tokens: without them it is not reported, since 0 would pass for a free call.
type RequestTracker struct {
	client  *Client
	started time.Time

	mu        sync.Mutex
	metric    Metrics
	config    *ServedConfig
	hasTokens bool
	ended     bool
}

// NewRequestTracker begins to time a call.
func (c *Client) NewRequestTracker(service, endpoint string) *RequestTracker {
	return &RequestTracker{
		client:  c,
		started: time.Now(),
		metric:  Metrics{Service: service, Endpoint: endpoint, StatusCode: 200},
	}
}

// Track makes a call with a tracker and reports it in the background. The error of fn is given back; it is
// reported with the status of its StatusCode method, if it has one, else 500, and a panic as an error. A call
// that was cancelled is not reported: it says nothing of the model.
func (c *Client) Track(
	ctx context.Context, service, endpoint string, fn func(ctx context.Context, tracker *RequestTracker) error,
) error {
	if callOf(ctx) == nil {
		ctx = WithCall(ctx, "")
	}
	tracker := c.NewRequestTracker(service, endpoint)
	defer func() {
		tracker.SetError("panic", failedStatus) // only a panic comes here before the tracker has ended
		tracker.Done()
	}()
	err := fn(ctx, tracker)
	if errors.Is(err, context.Canceled) {
		tracker.end()
		return err
	}
	if err != nil {
		tracker.SetError(errorType(err), errorStatus(err))
	}
	tracker.queue(c.handedUnder(ctx).of(service))
	return err
}

// Config gives the configuration for this call: fetched at first for the tracker's service and endpoint and for
// the context's unit (see [WithCall]), then the same again.
func (t *RequestTracker) Config(ctx context.Context) (*ServedConfig, error) {
	if known := t.known(); known != nil {
		return known, nil
	}
	config, err := t.client.GetConfigForService(ctx, t.metric.Service, t.metric.Endpoint)
	if err != nil {
		return nil, err
	}
	t.SetConfig(config)
	return config, nil
}

// SetConfig says which configuration served the call, where it is not the tracker's own.
func (t *RequestTracker) SetConfig(config *ServedConfig) {
	t.set(func() { t.config = config })
}

// SetTokens says how many tokens the prompt and the answer had.
func (t *RequestTracker) SetTokens(input, output int) {
	t.set(func() {
		t.metric.TokensInput, t.metric.TokensOutput, t.metric.TokensTotal = input, output, input+output
		t.hasTokens = true
	})
}

// SetCost says what the call cost in USD; without it the server prices the tokens.
func (t *RequestTracker) SetCost(usd float64) {
	t.set(func() { t.metric.CostUsd, t.metric.Free = usd, usd == 0 })
}

// SetModel says what served the call, where it is not what the configuration says.
func (t *RequestTracker) SetModel(provider, model string) {
	t.set(func() { t.metric.Provider, t.metric.Model = provider, model })
}

// SetRequestID names the call, so that [Client.ReportQuality] can refer to it.
func (t *RequestTracker) SetRequestID(id string) { t.SetTag("requestId", id) }

// SetTag adds a label of one's own.
func (t *RequestTracker) SetTag(name, value string) {
	t.set(func() { t.metric.Tags = withTag(t.metric.Tags, name, value) })
}

// SetError says that the call failed, with an HTTP status of 400 or more.
func (t *RequestTracker) SetError(errorType string, statusCode int) {
	t.set(func() { t.metric.ErrorType, t.metric.StatusCode = errorType, statusCode })
}

// SetRetries says how often the call was tried again before it ended as it did.
func (t *RequestTracker) SetRetries(count int) {
	t.set(func() { t.metric.RetryCount = count })
}

// Done ends the call and queues its report. It does no I/O and never fails; what cannot be reported is counted
// by [Client.DroppedReports].
func (t *RequestTracker) Done() { t.queue(nil) }

func (t *RequestTracker) queue(handed *ServedConfig) {
	if !t.end() {
		return
	}
	if err := t.complete(handed); err != nil {
		t.client.queue.drop(1, err.Error())
		return
	}
	t.client.queue.put(t.metric)
}

// Report ends the call, sends its report and waits for the server's answer.
func (t *RequestTracker) Report(ctx context.Context) error {
	if !t.end() {
		return nil
	}
	if err := t.complete(t.client.handedUnder(ctx).of(t.metric.Service)); err != nil {
		return err
	}
	return t.client.ReportMetrics(ctx, t.metric)
}

// set changes the tracker, unless the call has ended.
func (t *RequestTracker) set(change func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.ended {
		change()
	}
}

func (t *RequestTracker) known() *ServedConfig {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.config
}

// end stops the clock, and says whether it still ran.
func (t *RequestTracker) end() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended {
		return false
	}
	now := time.Now()
	t.ended = true
	t.metric.Timestamp = now.UnixMilli()
	t.metric.LatencyMs = float64(now.Sub(t.started)) / float64(time.Millisecond)
	return true
}

// complete fills in what the configuration says: the tracker's own, else the one handed out in its call context.
// It fails where something is not known even so.
func (t *RequestTracker) complete(handed *ServedConfig) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	config := t.config
	if config == nil {
		config = handed
	}
	if config != nil {
		if config.Version != "" && t.metric.Tags[versionTag] == "" {
			t.metric.Tags = withTag(t.metric.Tags, versionTag, config.Version)
		}
		if t.metric.Model == "" {
			t.metric.Provider, t.metric.Model = config.Provider, config.Model
		}
	}
	switch {
	case t.metric.Model == "":
		return errors.New("optimizer: a tracked call has no model: call its Config, SetConfig or SetModel")
	case !t.hasTokens && t.metric.ErrorType == "":
		return errors.New("optimizer: a tracked call has no tokens: call its SetTokens")
	}
	return nil
}

// errorType names the kind of an error by the type of what it wraps innermost.
func errorType(err error) string {
	for inner := errors.Unwrap(err); inner != nil; inner = errors.Unwrap(err) {
		err = inner
	}
	return strings.TrimPrefix(fmt.Sprintf("%T", err), "*")
}

// errorStatus is the HTTP status that an error of an LLM client carries, else 500.
func errorStatus(err error) int {
	var with interface{ StatusCode() int }
	if errors.As(err, &with) && with.StatusCode() >= 400 {
		return with.StatusCode()
	}
	return failedStatus
}
