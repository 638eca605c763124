package optimizer

import (
	"context"
	"net/url"
	"strconv"
)

// UpdateConfig changes a scope's configuration, rolled out by DeploymentStrategy, by default the policy's. The
// error is [ErrConstraintViolation] where a hard constraint forbids it, [ErrConflict] where a rollout runs.
func (c *Client) UpdateConfig(ctx context.Context, update ConfigUpdateRequest) (*ConfigUpdateResponse, error) {
	return answerOf[ConfigUpdateResponse](func(out any) error { return c.post(ctx, "/config/update", update, out) })
}

// RollBackConfig brings an earlier version back, as a rollout of its own.
func (c *Client) RollBackConfig(ctx context.Context, back ConfigRollbackRequest) (*ConfigUpdateResponse, error) {
	return answerOf[ConfigUpdateResponse](func(out any) error { return c.post(ctx, "/config/rollback", back, out) })
}

// GetVersions gives the versions of a scope, with neither service nor endpoint those of all, the newest first.
func (c *Client) GetVersions(ctx context.Context, scope Scope, page Page) (*ConfigVersions, error) {
	query := page.query()
	setIf(query, "service", scope.Service)
	setIf(query, "endpoint", scope.Endpoint)
	return answerOf[ConfigVersions](func(out any) error { return c.get(ctx, "/config/versions", query, out) })
}

// QueryMetrics computes metrics over a range of time.
func (c *Client) QueryMetrics(ctx context.Context, query MetricsQuery) (*MetricsQueryResponse, error) {
	return answerOf[MetricsQueryResponse](func(out any) error { return c.post(ctx, "/analytics/metrics", query, out) })
}

// GetHistory gives what the optimizer decided and did, the newest first.
func (c *Client) GetHistory(ctx context.Context, history HistoryQuery) (*HistoryResponse, error) {
	query := Page{history.Limit, history.Offset}.query()
	for _, service := range history.Services {
		query.Add("services", service)
	}
	if history.TimeRange != nil {
		query.Set("start", strconv.FormatInt(history.TimeRange.Start, 10))
		query.Set("end", strconv.FormatInt(history.TimeRange.End, 10))
	}
	return answerOf[HistoryResponse](func(out any) error { return c.get(ctx, "/analytics/history", query, out) })
}

// TriggerOptimization starts an optimization.
func (c *Client) TriggerOptimization(ctx context.Context, run OptimizationRequest) (*OptimizationStarted, error) {
	return answerOf[OptimizationStarted](func(out any) error { return c.post(ctx, "/optimize/trigger", run, out) })
}

// GetOptimization tells how far an optimization is, and what it came to.
func (c *Client) GetOptimization(ctx context.Context, optimizationID string) (*OptimizationStatus, error) {
	path := "/optimize/" + url.PathEscape(optimizationID)
	return answerOf[OptimizationStatus](func(out any) error { return c.get(ctx, path, nil, out) })
}

// ListDeployments gives rollouts, the newest first.
func (c *Client) ListDeployments(ctx context.Context, of DeploymentQuery) (*Deployments, error) {
	query := Page{of.Limit, of.Offset}.query()
	setIf(query, "scope", of.Scope)
	if of.Open {
		query.Set("open", "true")
	}
	return answerOf[Deployments](func(out any) error { return c.get(ctx, "/deployments", query, out) })
}

// GetDeployment gives a rollout: its steps, their verdicts, and the guardrails of each.
func (c *Client) GetDeployment(ctx context.Context, deploymentID string) (*Deployment, error) {
	path := "/deployments/" + url.PathEscape(deploymentID)
	return answerOf[Deployment](func(out any) error { return c.get(ctx, path, nil, out) })
}

// PauseDeployment holds a rollout at its present share.
func (c *Client) PauseDeployment(ctx context.Context, deploymentID, reason string) (*Deployment, error) {
	return c.act(ctx, deploymentID, "pause", reason)
}

// ResumeDeployment goes on with a paused or held rollout.
func (c *Client) ResumeDeployment(ctx context.Context, deploymentID, reason string) (*Deployment, error) {
	return c.act(ctx, deploymentID, "resume", reason)
}

// ApproveDeployment lets a rollout that awaits approval go on.
func (c *Client) ApproveDeployment(ctx context.Context, deploymentID, reason string) (*Deployment, error) {
	return c.act(ctx, deploymentID, "approve", reason)
}

// PromoteDeployment ends a rollout with the new version for everybody.
func (c *Client) PromoteDeployment(ctx context.Context, deploymentID, reason string) (*Deployment, error) {
	return c.act(ctx, deploymentID, "promote", reason)
}

// AbortDeployment ends a rollout with the old version for everybody.
func (c *Client) AbortDeployment(ctx context.Context, deploymentID, reason string) (*Deployment, error) {
	return c.act(ctx, deploymentID, "abort", reason)
}

func (c *Client) act(ctx context.Context, deploymentID, action, reason string) (*Deployment, error) {
	path := "/deployments/" + url.PathEscape(deploymentID) + "/" + action
	body := map[string]string{}
	if reason != "" {
		body["reason"] = reason
	}
	return answerOf[Deployment](func(out any) error { return c.post(ctx, path, body, out) })
}

// GetPolicy gives a service's policy, defaults filled in.
func (c *Client) GetPolicy(ctx context.Context, service string) (Policy, error) {
	var policy Policy
	err := c.get(ctx, "/services/"+url.PathEscape(service), nil, &policy)
	return policy, err
}

// PutPolicy sets a service's policy; what it leaves out is the default. It gives the policy that holds then.
func (c *Client) PutPolicy(ctx context.Context, service string, policy Policy) (Policy, error) {
	var set Policy
	err := c.put(ctx, "/services/"+url.PathEscape(service), policy, &set)
	return set, err
}

// GetHealth tells how the server is.
func (c *Client) GetHealth(ctx context.Context) (*Health, error) {
	return answerOf[Health](func(out any) error { return c.get(ctx, "/health", nil, out) })
}

// GetStatus tells what the optimizer is doing.
func (c *Client) GetStatus(ctx context.Context) (*Status, error) {
	return answerOf[Status](func(out any) error { return c.get(ctx, "/status", nil, out) })
}

// answerOf gives the decoded answer of a call, nil where it failed.
func answerOf[T any](call func(out any) error) (*T, error) {
	answer := new(T)
	if err := call(answer); err != nil {
		return nil, err
	}
	return answer, nil
}

func (p Page) query() url.Values {
	query := url.Values{}
	if p.Limit > 0 {
		query.Set("limit", strconv.Itoa(p.Limit))
	}
	if p.Offset > 0 {
		query.Set("offset", strconv.Itoa(p.Offset))
	}
	return query
}

func setIf(query url.Values, name, value string) {
	if value != "" {
		query.Set(name, value)
	}
}
