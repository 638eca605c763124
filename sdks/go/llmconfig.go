package optimizer

import (
	"net/http"
	"time"
)

// LLMConfig says what to call and how.
type LLMConfig struct {
	Provider        string         `json:"provider"`
	Model           string         `json:"model"`
	ModelVersion    string         `json:"modelVersion,omitempty"`
	Temperature     float64        `json:"temperature"` // 0..2
	TopP            float64        `json:"topP"`        // 0..1
	TopK            *int           `json:"topK,omitempty"`
	MaxTokens       int            `json:"maxTokens"`
	StopSequences   []string       `json:"stopSequences,omitempty"`
	Streaming       bool           `json:"streaming"`
	FunctionCalling bool           `json:"functionCalling"`
	VisionEnabled   bool           `json:"visionEnabled"`
	Parameters      map[string]any `json:"parameters,omitempty"` // anything else that the provider takes
}

// ServedConfig is a configuration to call with, and the version that says so. Its slices and maps are shared:
// read them, do not change them.
type ServedConfig struct {
	// Version goes into a report's tags.configVersion; the client adds it by itself. It is empty for
	// [Config.Default].
	Version   string `json:"version"`
	LLMConfig `json:"config"`
	// DeploymentID names the rollout that runs on the scope, if one does.
	DeploymentID string `json:"-"`
	// Canary says that this is the new configuration of that rollout.
	Canary bool `json:"-"`
}

// Scope says whose configuration: a service's, one of its endpoints', or as its zero value the global one.
type Scope struct {
	Service  string `json:"service,omitempty"`
	Endpoint string `json:"endpoint,omitempty"`
}

// scopeAnswer is what the server says of a scope: the configuration, and the rollout if one runs.
type scopeAnswer struct {
	config  *ServedConfig
	rollout *rollout
	etag    string
}

// rollout is two versions that share a scope's traffic. Past watchedUntil, by the local monotonic clock,
// nobody watches the canary any more, and it is not served.
type rollout struct {
	deploymentID   string
	trafficPercent float64
	watchedUntil   time.Time
	control        *ServedConfig
	canary         *ServedConfig
}

// draw gives the configuration of this unit at this moment; without a unit it is drawn by the share.
func (a *scopeAnswer) draw(unit string, now time.Time) *ServedConfig {
	r := a.rollout
	switch {
	case r == nil:
		return a.config.copy()
	case now.Before(r.watchedUntil) && takesCanary(r.deploymentID, unit, r.trafficPercent):
		return r.canary.copy()
	default:
		return r.control.copy()
	}
}

// lasting is the configuration that holds whether or not anybody watches.
func (a *scopeAnswer) lasting() *ServedConfig {
	if a.rollout != nil {
		return a.rollout.control
	}
	return a.config
}

func (c *ServedConfig) copy() *ServedConfig {
	copied := *c
	return &copied
}

// parseScopeAnswer reads an answer of the config reads or an event of the stream. serverTime is the server's
// clock at the local moment now.
func parseScopeAnswer(answer *response, serverTime, now time.Time) (*scopeAnswer, error) {
	var body struct {
		ServedConfig
		Rollout *struct {
			DeploymentID   string
			TrafficPercent float64
			WatchedUntil   float64 // ms since the epoch
			Control        ServedConfig
			Canary         ServedConfig
		}
	}
	if err := decode(answer, &body); err != nil {
		return nil, err
	}
	read := &scopeAnswer{config: &body.ServedConfig, etag: answer.header.Get("ETag")}
	whole := body.ServedConfig.whole()
	if r := body.Rollout; r != nil {
		left := time.Duration((r.WatchedUntil - float64(serverTime.UnixMilli())) * float64(time.Millisecond))
		read.rollout = &rollout{
			deploymentID:   r.DeploymentID,
			trafficPercent: r.TrafficPercent,
			watchedUntil:   now.Add(left),
			control:        &r.Control,
			canary:         &r.Canary,
		}
		r.Control.DeploymentID, r.Canary.DeploymentID, r.Canary.Canary = r.DeploymentID, r.DeploymentID, true
		whole = whole && r.DeploymentID != "" && r.Control.whole() && r.Canary.whole()
	}
	if !whole {
		return nil, unexpected(answer, "the answer is no configuration")
	}
	return read, nil
}

func (c *ServedConfig) whole() bool {
	return c.Version != "" && c.Provider != "" && c.Model != ""
}

// serverClock is the server's clock by its Date, which counts whole seconds, so half of one is added; without
// one, our own clock.
func serverClock(header http.Header, now time.Time) time.Time {
	date, err := http.ParseTime(header.Get("Date"))
	if err != nil {
		return now
	}
	return date.Add(500 * time.Millisecond)
}
