package optimizer

import (
	"context"
	"encoding/json"
	"maps"
)

const versionTag = "configVersion"

// Metrics is one LLM call. All fields are required but those marked optional.
type Metrics struct {
	Timestamp    int64   `json:"timestamp"` // ms since the epoch
	Service      string  `json:"service"`
	Endpoint     string  `json:"endpoint"`
	Model        string  `json:"model"`
	Provider     string  `json:"provider"`
	LatencyMs    float64 `json:"latencyMs"`
	TokensInput  int     `json:"tokensInput"`
	TokensOutput int     `json:"tokensOutput"`
	TokensTotal  int     `json:"tokensTotal"`
	// CostUsd is optional: where it is 0 the server prices the tokens, unless Free is set.
	CostUsd float64 `json:"costUsd,omitempty"`
	// Free says that the call is known to have cost nothing.
	Free       bool              `json:"-"`
	StatusCode int               `json:"statusCode"`
	ErrorType  string            `json:"errorType,omitempty"`  // optional
	RetryCount int               `json:"retryCount,omitempty"` // optional
	Tags       map[string]string `json:"tags,omitempty"`       // optional; configVersion says what served the call
}

// MarshalJSON gives the API's form of a metric.
func (m Metrics) MarshalJSON() ([]byte, error) {
	type plain Metrics
	if !m.Free {
		return json.Marshal(plain(m))
	}
	return json.Marshal(struct {
		plain
		CostUsd float64 `json:"costUsd"`
	}{plain: plain(m)})
}

// Quality is a judgement of one answer, joined to its metric by RequestID (the metric's tags.requestId), else
// to the service's calls of ConfigVersion.
type Quality struct {
	Timestamp        int64              `json:"timestamp"` // ms since the epoch
	Service          string             `json:"service"`
	OverallScore     float64            `json:"overallScore"` // 0..100
	RequestID        string             `json:"requestId,omitempty"`
	ConfigVersion    string             `json:"configVersion,omitempty"`
	DimensionScores  map[string]float64 `json:"dimensionScores,omitempty"`
	EvaluationMethod string             `json:"evaluationMethod,omitempty"`
	Tags             map[string]string  `json:"tags,omitempty"`
}

// ReportMetrics reports one call and waits for the server's answer; a [RequestTracker] need not wait.
func (c *Client) ReportMetrics(ctx context.Context, metrics Metrics) error {
	return c.ReportMetricsBatch(ctx, []Metrics{metrics})
}

// ReportMetricsBatch reports calls and waits for the server's answer. Where the server took only some, the
// error is a [*RejectedError]. A metric without tags.configVersion gets the version that was handed out last in
// the same call context: under the same [WithCall]; under [context.Background], by all calls that were made under
// it, unless both versions of a rollout were.
func (c *Client) ReportMetricsBatch(ctx context.Context, metrics []Metrics) error {
	completed := make([]Metrics, len(metrics))
	for i, metric := range metrics {
		if metric.Tags[versionTag] == "" {
			if handed := c.handedUnder(ctx).of(metric.Service); handed != nil && handed.Version != "" {
				metric.Tags = withTag(metric.Tags, versionTag, handed.Version)
			}
		}
		completed[i] = metric
	}
	return c.report(ctx, "/metrics", map[string]any{"metrics": completed})
}

// ReportQuality reports how good an answer was. Without RequestID and ConfigVersion it gets its version as
// metrics do.
func (c *Client) ReportQuality(ctx context.Context, quality Quality) error {
	return c.ReportQualityBatch(ctx, []Quality{quality})
}

// ReportQualityBatch reports judgements, as [Client.ReportQuality] does one.
func (c *Client) ReportQualityBatch(ctx context.Context, quality []Quality) error {
	completed := make([]Quality, len(quality))
	for i, one := range quality {
		if one.RequestID == "" && one.ConfigVersion == "" {
			if handed := c.handedUnder(ctx).of(one.Service); handed != nil {
				one.ConfigVersion = handed.Version
			}
		}
		completed[i] = one
	}
	return c.report(ctx, "/quality", map[string]any{"evaluations": completed})
}

func (c *Client) report(ctx context.Context, path string, body any) error {
	var result RejectedError
	if err := c.post(ctx, path, body, &result); err != nil {
		return err
	}
	if result.Rejected > 0 {
		return &result
	}
	return nil
}

func withTag(tags map[string]string, name, value string) map[string]string {
	tagged := make(map[string]string, len(tags)+1)
	maps.Copy(tagged, tags)
	tagged[name] = value
	return tagged
}
