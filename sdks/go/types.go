package optimizer

import "encoding/json"

// The API's messages. Times are in milliseconds since the epoch; what a message leaves out is the zero value,
// nil where the zero value means something else.

// ConfigUpdateRequest asks for a change of a scope's configuration; without a service, of the global one.
type ConfigUpdateRequest struct {
	Config             LLMConfig `json:"config"`
	Reason             string    `json:"reason"`
	Service            string    `json:"service,omitempty"`
	Endpoint           string    `json:"endpoint,omitempty"`
	DeploymentStrategy string    `json:"deploymentStrategy,omitempty"` // immediate, canary, gradual
	ValidateOnly       bool      `json:"validateOnly,omitempty"`
}

// ConfigRollbackRequest asks for an earlier version.
type ConfigRollbackRequest struct {
	Version            string `json:"version"`
	Reason             string `json:"reason"`
	DeploymentStrategy string `json:"deploymentStrategy,omitempty"` // immediate, canary, gradual
	ValidateOnly       bool   `json:"validateOnly,omitempty"`
}

// ConfigUpdateResponse says what becomes of a change. Version is, or will be, served; Unchanged says that it
// already was.
type ConfigUpdateResponse struct {
	Success          bool             `json:"success"`
	Version          string           `json:"version,omitempty"`
	ValidationResult ValidationResult `json:"validationResult"`
	DeploymentID     string           `json:"deploymentId,omitempty"`
	Unchanged        bool             `json:"unchanged,omitempty"`
}

// ValidationResult says which constraints a configuration breaches.
type ValidationResult struct {
	IsValid         bool        `json:"isValid"`
	Violations      []Violation `json:"violations"`
	Recommendations []string    `json:"recommendations,omitempty"`
}

// Violation is a breach of one constraint.
type Violation struct {
	Constraint string `json:"constraint"`
	Severity   string `json:"severity"` // error, warning
	Message    string `json:"message"`
}

// ConfigVersion is a version of a scope's configuration: what, who, when and why.
type ConfigVersion struct {
	Version      string    `json:"version"`
	Scope        string    `json:"scope"`
	Config       LLMConfig `json:"config"`
	CreatedAt    int64     `json:"createdAt"`
	CreatedBy    string    `json:"createdBy"`
	ChangeType   string    `json:"changeType"` // manual, automatic
	Reason       string    `json:"reason"`
	DeploymentID string    `json:"deploymentId,omitempty"`
	DerivedFrom  string    `json:"derivedFrom,omitempty"`
}

// ConfigVersions is a page of versions, and how many there are in all.
type ConfigVersions struct {
	Total    int             `json:"total"`
	Versions []ConfigVersion `json:"versions"`
}

// Page says which part of a list is wanted; its zero value leaves that to the server.
type Page struct {
	Limit  int
	Offset int
}

// TimeRange is from Start up to End, in ms since the epoch.
type TimeRange struct {
	Start int64 `json:"start"`
	End   int64 `json:"end"`
}

// MetricsQuery asks for metrics. Without an aggregation a metric is computed over the whole range or interval
// (p95 is the p95 of its requests), with one its values per minute are folded.
type MetricsQuery struct {
	Services    []string  `json:"services,omitempty"`
	Metrics     []string  `json:"metrics"` // latency.p95, cost.total, …
	TimeRange   TimeRange `json:"timeRange"`
	Aggregation string    `json:"aggregation,omitempty"` // avg, sum, min, max, p95, p99
	GroupBy     []string  `json:"groupBy,omitempty"`     // service, model, …
	Interval    int64     `json:"interval,omitempty"`    // ms; without it there is one point
}

// MetricsQueryResponse has a series per metric.
type MetricsQueryResponse struct {
	Metrics []MetricSeries `json:"metrics"`
}

// MetricSeries is the values of a metric.
type MetricSeries struct {
	Metric     string      `json:"metric"`
	DataPoints []DataPoint `json:"dataPoints"`
}

// DataPoint is one value, of the group that Dimensions name.
type DataPoint struct {
	Timestamp  int64             `json:"timestamp"`
	Value      float64           `json:"value"`
	Dimensions map[string]string `json:"dimensions,omitempty"`
}

// HistoryQuery asks for events; its zero value for the newest of all services.
type HistoryQuery struct {
	Limit     int
	Offset    int
	Services  []string
	TimeRange *TimeRange
}

// HistoryResponse is a page of events, and how many there are in all.
type HistoryResponse struct {
	Total  int                 `json:"total"`
	Events []OptimizationEvent `json:"events"`
}

// OptimizationEvent is something that the optimizer found, decided or did.
type OptimizationEvent struct {
	ID                   string             `json:"id"`
	Timestamp            int64              `json:"timestamp"`
	Type                 string             `json:"type"` // analysis, decision, deployment, rollback
	Service              string             `json:"service"`
	TriggeredBy          string             `json:"triggeredBy"` // timer, threshold, event, manual
	TriggerDetails       json.RawMessage    `json:"triggerDetails,omitempty"`
	PreviousConfig       *LLMConfig         `json:"previousConfig,omitempty"`
	ProposedConfig       *LLMConfig         `json:"proposedConfig,omitempty"`
	Decision             string             `json:"decision"` // optimize, skip, rollback
	Reasoning            string             `json:"reasoning"`
	Confidence           *float64           `json:"confidence,omitempty"` // 0..1
	PredictedImprovement map[string]float64 `json:"predictedImprovement,omitempty"`
	ActualImprovement    map[string]float64 `json:"actualImprovement,omitempty"`
	Executed             bool               `json:"executed"`
	ExecutionStrategy    string             `json:"executionStrategy,omitempty"`
	ExecutionDurationMs  int64              `json:"executionDurationMs,omitempty"`
	Success              *bool              `json:"success,omitempty"`
	Errors               []string           `json:"errors,omitempty"`
}

// OptimizationRequest says what to optimize: these services, or all. Objectives replace the policy's, constraints
// are added to it.
type OptimizationRequest struct {
	Services    []string     `json:"services,omitempty"`
	Objectives  []Objective  `json:"objectives,omitempty"`
	Constraints []Constraint `json:"constraints,omitempty"`
	DryRun      bool         `json:"dryRun,omitempty"`
}

// Objective is a metric to make better, and how much that counts.
type Objective struct {
	Metric string  `json:"metric"`
	Goal   string  `json:"goal"`   // minimize, maximize
	Weight float64 `json:"weight"` // above 0
}

// Constraint is a bound that a plan must keep (hard) or pays for breaching (soft).
type Constraint struct {
	ID          string   `json:"id,omitempty"`
	Type        string   `json:"type"` // hard, soft
	Metric      string   `json:"metric,omitempty"`
	Min         *float64 `json:"min,omitempty"`
	Max         *float64 `json:"max,omitempty"`
	Models      []string `json:"models,omitempty"`     // the allowed ones: provider/model or model
	CooldownMs  int64    `json:"cooldownMs,omitempty"` // no change sooner than this after the last
	WindowMs    int64    `json:"windowMs,omitempty"`   // the period of a total
	Description string   `json:"description,omitempty"`
	Priority    int      `json:"priority,omitempty"`
}

// OptimizationStarted is the answer to a trigger.
type OptimizationStarted struct {
	OptimizationID string            `json:"optimizationId"`
	Status         string            `json:"status"` // queued, running, completed, failed
	Plan           *OptimizationPlan `json:"plan,omitempty"`
	Eta            int64             `json:"eta,omitempty"` // ms until completion
}

// OptimizationStatus tells how far an optimization is.
type OptimizationStatus struct {
	ID           string              `json:"id"`
	Status       string              `json:"status"`       // queued, running, completed, failed
	Progress     float64             `json:"progress"`     // 0..100
	CurrentPhase string              `json:"currentPhase"` // observe, analyze, decide, act
	Result       *OptimizationResult `json:"result,omitempty"`
	Error        string              `json:"error,omitempty"`
}

// OptimizationResult is what an optimization came to.
type OptimizationResult struct {
	Decision       string             `json:"decision"` // optimize, skip, rollback
	Reasoning      string             `json:"reasoning"`
	Plans          []OptimizationPlan `json:"plans"`
	Deployments    []ResultDeployment `json:"deployments"`
	ChangesApplied bool               `json:"changesApplied"`
	Improvements   map[string]float64 `json:"improvements,omitempty"`
	DurationMs     int64              `json:"durationMs"`
}

// ResultDeployment is a rollout that an optimization started.
type ResultDeployment struct {
	Service       string `json:"service"`
	DeploymentID  string `json:"deploymentId"`
	ConfigVersion string `json:"configVersion"`
	Status        string `json:"status"`
}

// OptimizationPlan is a better configuration, and why it is held to be one.
type OptimizationPlan struct {
	Service             string                `json:"service"`
	RecommendedConfig   LLMConfig             `json:"recommendedConfig"`
	ExpectedImprovement map[string]float64    `json:"expectedImprovement"` // by metric, a fraction, positive is better
	Predictions         map[string]Prediction `json:"predictions"`
	Confidence          float64               `json:"confidence"` // probability that it beats the present one
	Rationale           string                `json:"rationale"`
	Alternatives        []Alternative         `json:"alternatives"`
	Source              string                `json:"source"` // rule, model
}

// Prediction is a metric's expected value with its 90 % interval.
type Prediction struct {
	Mean    float64 `json:"mean"`
	Low     float64 `json:"low"`
	High    float64 `json:"high"`
	Samples int     `json:"samples"`
}

// Alternative is a configuration that was considered too.
type Alternative struct {
	Config        LLMConfig             `json:"config"`
	Score         float64               `json:"score"`
	Predictions   map[string]Prediction `json:"predictions"`
	Tradeoffs     string                `json:"tradeoffs"`
	OnParetoFront bool                  `json:"onParetoFront"`
}

// DeploymentQuery says which rollouts are asked for. Scope is a service, "<service>:<endpoint>" or "global"; Open
// leaves out those that have ended.
type DeploymentQuery struct {
	Scope  string
	Open   bool
	Limit  int
	Offset int
}

// Deployments is a page of rollouts, and how many there are in all.
type Deployments struct {
	Total       int          `json:"total"`
	Deployments []Deployment `json:"deployments"`
}

// Deployment is a rollout with its steps.
type Deployment struct {
	DeploymentID   string    `json:"deploymentId"`
	Scope          string    `json:"scope"`
	Strategy       string    `json:"strategy"`
	FromVersion    string    `json:"fromVersion"`
	ToVersion      string    `json:"toVersion"`
	Status         string    `json:"status"`
	Progress       float64   `json:"progress"`
	TrafficPercent float64   `json:"trafficPercent"`
	StartedAt      int64     `json:"startedAt"`
	EndedAt        int64     `json:"endedAt,omitempty"`
	Reason         string    `json:"reason"`
	Steps          []Step    `json:"steps"`
	Rollback       *Rollback `json:"rollback,omitempty"`
}

// Step is a share of the traffic, and how the canary did with it.
type Step struct {
	Percent    float64     `json:"percent"`
	StartedAt  int64       `json:"startedAt,omitempty"`
	EndedAt    int64       `json:"endedAt,omitempty"`
	Extensions int         `json:"extensions"`
	Verdict    string      `json:"verdict,omitempty"` // healthy, unhealthy, inconclusive
	Guardrails []Guardrail `json:"guardrails"`
}

// Guardrail is one metric of both arms. Low and High bound Difference.
type Guardrail struct {
	Metric     string   `json:"metric"`
	Control    *float64 `json:"control,omitempty"`
	Canary     *float64 `json:"canary,omitempty"`
	Difference *float64 `json:"difference,omitempty"`
	Low        *float64 `json:"low,omitempty"`
	High       *float64 `json:"high,omitempty"`
	Evidence   float64  `json:"evidence"`
	Samples    Samples  `json:"samples"`
}

// Samples is how many calls each arm had.
type Samples struct {
	Control int `json:"control"`
	Canary  int `json:"canary"`
}

// Rollback says why a rollout was taken back.
type Rollback struct {
	Reason    string            `json:"reason"`
	Automatic bool              `json:"automatic"`
	Triggers  []RollbackTrigger `json:"triggers"`
}

// RollbackTrigger is a bound that was breached.
type RollbackTrigger struct {
	Metric    string  `json:"metric"`
	Threshold float64 `json:"threshold"`
	Actual    float64 `json:"actual"`
}

// Policy is a service's policy as the API has it, so that reading and putting it loses nothing: objectives,
// constraints, searchSpace, rules, rollout, guardrails, schedule, triggers, …
type Policy map[string]any

// Health tells how the server is.
type Health struct {
	Status  string        `json:"status"` // healthy, degraded, unhealthy
	Version string        `json:"version"`
	Uptime  int64         `json:"uptime"`
	Checks  []HealthCheck `json:"checks"`
}

// HealthCheck is one part of it; Latency in ms.
type HealthCheck struct {
	Name    string  `json:"name"`
	Healthy bool    `json:"healthy"`
	Message string  `json:"message,omitempty"`
	Latency float64 `json:"latency,omitempty"`
}

// Status tells what the optimizer is doing.
type Status struct {
	Mode        string `json:"mode"` // sidecar, standalone, daemon
	ControlLoop struct {
		State   string `json:"state"`
		LastRun int64  `json:"lastRun"`
		NextRun int64  `json:"nextRun"`
	} `json:"controlLoop"`
	Deployments struct {
		Active  int `json:"active"`
		Pending int `json:"pending"`
	} `json:"deployments"`
	Metrics struct {
		BufferSize    int     `json:"bufferSize"`
		IngestionRate float64 `json:"ingestionRate"` // per second
		LastFlush     int64   `json:"lastFlush"`
	} `json:"metrics"`
	Resources struct {
		MemoryUsageMb   float64 `json:"memoryUsageMb"`
		CPUUsagePercent float64 `json:"cpuUsagePercent"`
	} `json:"resources"`
}
