/** The API's messages, as they travel: camelCase, times in milliseconds since the epoch. */

export interface LLMConfig {
  provider: string;
  model: string;
  modelVersion?: string;
  /** 0..2 */
  temperature: number;
  /** 0..1 */
  topP: number;
  topK?: number;
  maxTokens: number;
  stopSequences?: string[];
  streaming: boolean;
  functionCalling: boolean;
  visionEnabled: boolean;
  /** Anything else that the provider takes. */
  parameters?: Record<string, unknown>;
}

/** Whose configuration: a service's, one of its endpoints', or with neither the global one. */
export interface Scope {
  service?: string;
  endpoint?: string;
}

export interface ScopeOfUnit extends Scope {
  /** A user's or a session's id: the same unit keeps its configuration throughout a rollout. */
  unit?: string;
}

/** One LLM call. Without `costUsd` the server prices it; `tags.configVersion` says what served it. */
export interface Metric {
  timestamp: number;
  service: string;
  endpoint: string;
  model: string;
  provider: string;
  latencyMs: number;
  tokensInput: number;
  tokensOutput: number;
  tokensTotal: number;
  costUsd?: number;
  statusCode: number;
  errorType?: string;
  retryCount?: number;
  tags?: Record<string, string>;
}

/** A judgement of one answer, 0..100, joined to its metric by `requestId` (its `tags.requestId`). */
export interface Quality {
  timestamp: number;
  service: string;
  requestId?: string;
  configVersion?: string;
  overallScore: number;
  dimensionScores?: Record<string, number>;
  evaluationMethod: string;
}

/** What became of a batch: each item that was not taken is named. */
export interface IngestResult {
  accepted: number;
  rejected: number;
  errors?: Array<{ index: number; reason: string }>;
}

export interface TimeRange {
  start: number;
  end: number;
}

export interface MetricsQuery {
  services?: string[];
  metrics: string[];
  timeRange: TimeRange;
  aggregation?: 'avg' | 'sum' | 'min' | 'max' | 'p95' | 'p99';
  groupBy?: string[];
  /** Milliseconds per point; without it there is one point per group. */
  interval?: number;
}

export interface MetricsQueryResult {
  metrics: Array<{
    metric: string;
    dataPoints: Array<{ timestamp: number; value: number; dimensions?: Record<string, string> }>;
  }>;
}

export interface Page {
  limit?: number;
  offset?: number;
}

export interface HistoryQuery extends Page {
  services?: string[];
  timeRange?: TimeRange;
}

export interface OptimizationEvent {
  id: string;
  timestamp: number;
  type: 'analysis' | 'decision' | 'deployment' | 'rollback';
  service: string;
  triggeredBy: 'timer' | 'threshold' | 'event' | 'manual';
  triggerDetails?: unknown;
  previousConfig?: LLMConfig;
  proposedConfig?: LLMConfig;
  decision: 'optimize' | 'skip' | 'rollback';
  reasoning: string;
  confidence?: number;
  predictedImprovement?: Record<string, number>;
  actualImprovement?: Record<string, number>;
  executed: boolean;
  executionStrategy?: string;
  executionDurationMs?: number;
  success?: boolean;
  errors?: string[];
}

export interface History {
  total: number;
  events: OptimizationEvent[];
}

export interface Objective {
  metric: string;
  goal: 'minimize' | 'maximize';
  weight: number;
}

export interface Constraint {
  id?: string;
  type: 'hard' | 'soft';
  metric?: string;
  min?: number;
  max?: number;
  models?: string[];
  cooldownMs?: number;
  windowMs?: number;
  description?: string;
  priority?: number;
}

/** `objectives` replace the policy's, `constraints` are added to it. No services: all. */
export interface OptimizationRequest {
  services?: string[];
  objectives?: Objective[];
  constraints?: Constraint[];
  dryRun?: boolean;
}

/** A mean and its 90 % interval. */
export interface Prediction {
  mean: number;
  low: number;
  high: number;
  samples: number;
}

export interface OptimizationPlan {
  service: string;
  recommendedConfig: LLMConfig;
  expectedImprovement: Record<string, number>;
  predictions: Record<string, Prediction>;
  confidence: number;
  rationale: string;
  alternatives: Array<{
    config: LLMConfig;
    score: number;
    predictions: Record<string, Prediction>;
    tradeoffs: string;
    onParetoFront: boolean;
  }>;
  source: 'rule' | 'model';
}

type RunStatus = 'queued' | 'running' | 'completed' | 'failed';

/** The answer to a trigger; `eta` in ms. */
export interface OptimizationStarted {
  optimizationId: string;
  status: RunStatus;
  plan?: OptimizationPlan;
  eta?: number;
}

export interface OptimizationResult {
  decision: 'optimize' | 'skip' | 'rollback';
  reasoning: string;
  plans: OptimizationPlan[];
  deployments: Array<{ service: string; deploymentId: string; configVersion: string; status: string }>;
  changesApplied: boolean;
  improvements?: Record<string, number>;
  durationMs: number;
}

/** How far a run is; `progress` is 0..100. */
export interface OptimizationStatus {
  id: string;
  status: RunStatus;
  progress: number;
  currentPhase: 'observe' | 'analyze' | 'decide' | 'act';
  result?: OptimizationResult;
  error?: string;
}

/** One metric of both arms; `low` and `high` bound `difference`. */
export interface GuardrailCheck {
  metric: string;
  control?: number;
  canary?: number;
  difference?: number;
  low?: number;
  high?: number;
  evidence: number;
  samples: { control: number; canary: number };
}

/** A rollout with its steps. */
export interface Deployment {
  deploymentId: string;
  scope: string;
  strategy: string;
  fromVersion: string;
  toVersion: string;
  status:
    | 'pending'
    | 'awaiting_approval'
    | 'running'
    | 'paused'
    | 'held'
    | 'completed'
    | 'rolling_back'
    | 'rolled_back'
    | 'failed';
  progress: number;
  trafficPercent: number;
  startedAt: number;
  endedAt?: number;
  reason: string;
  steps: Array<{
    percent: number;
    startedAt?: number;
    endedAt?: number;
    extensions: number;
    verdict?: 'healthy' | 'unhealthy' | 'inconclusive';
    guardrails: GuardrailCheck[];
  }>;
  rollback?: {
    reason: string;
    automatic: boolean;
    triggers: Array<{ metric: string; threshold: number; actual: number }>;
  };
}

export interface DeploymentQuery extends Page {
  /** A service, `<service>:<endpoint>` or `global`. */
  scope?: string;
  /** Only those that have not ended. */
  open?: boolean;
}

export interface Deployments {
  total: number;
  deployments: Deployment[];
}

export interface ConfigUpdate extends Scope {
  config: LLMConfig;
  reason: string;
  deploymentStrategy?: 'immediate' | 'canary' | 'gradual';
  validateOnly?: boolean;
}

export interface ConfigRollback {
  version: string;
  reason: string;
  deploymentStrategy?: 'immediate' | 'canary' | 'gradual';
  validateOnly?: boolean;
}

export interface ValidationResult {
  isValid: boolean;
  violations: Array<{ constraint: string; severity: 'error' | 'warning'; message: string }>;
  recommendations?: string[];
}

/** `version` is, or will be, served; `unchanged` says that it already was. */
export interface ConfigUpdateResult {
  success: boolean;
  version?: string;
  validationResult: ValidationResult;
  deploymentId?: string;
  unchanged?: boolean;
}

/** A version of a scope's configuration: what, who, when and why. */
export interface ConfigVersion {
  version: string;
  scope: string;
  config: LLMConfig;
  createdAt: number;
  createdBy: string;
  changeType: string;
  reason: string;
  deploymentId?: string;
  derivedFrom?: string;
}

export interface ConfigVersions {
  total: number;
  versions: ConfigVersion[];
}

/** A service's policy: objectives, constraints, search space, rules, rollout, guardrails, schedule. */
export type Policy = Record<string, unknown>;

export interface Health {
  status: 'healthy' | 'degraded' | 'unhealthy';
  version: string;
  /** Milliseconds. */
  uptime: number;
  checks: Array<{ name: string; healthy: boolean; message?: string; latency?: number }>;
}

export interface Status {
  mode: 'sidecar' | 'standalone' | 'daemon';
  controlLoop: {
    state:
      | 'IDLE'
      | 'COLLECTING'
      | 'ANALYZING'
      | 'DECIDING'
      | 'VALIDATING'
      | 'DEPLOYING'
      | 'MONITORING'
      | 'ROLLING_BACK'
      | 'PAUSED'
      | 'STOPPED'
      | 'ERROR';
    lastRun: number;
    nextRun: number;
  };
  deployments: { active: number; pending: number };
  metrics: { bufferSize: number; ingestionRate: number; lastFlush: number };
  resources: { memoryUsageMb: number; cpuUsagePercent: number };
}
