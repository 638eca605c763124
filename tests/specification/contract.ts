// The types that the specification names and leaves to the contract.

interface LLMConfig {
  provider: string; model: string; modelVersion?: string;
  temperature: number; topP: number; topK?: number; maxTokens: number;
  stopSequences?: string[]; streaming: boolean; functionCalling: boolean; visionEnabled: boolean;
  parameters?: Record<string, any>;
}
interface Objective { metric: string; goal: 'minimize' | 'maximize'; weight: number }
interface Constraint {
  id?: string; type: 'hard' | 'soft'; metric?: string; min?: number; max?: number;
  models?: string[]; cooldownMs?: number; windowMs?: number; description?: string; priority?: number;
}
interface ValidationResult {
  isValid: boolean;
  violations: Array<{ constraint: string; severity: 'error' | 'warning'; message: string }>;
  recommendations?: string[];
}
interface Prediction { mean: number; low: number; high: number; samples: number }
interface OptimizationPlan {
  service: string; recommendedConfig: LLMConfig; expectedImprovement: Record<string, number>;
  predictions: Record<string, Prediction>; confidence: number; rationale: string;
  alternatives: Array<{
    config: LLMConfig; score: number; predictions: Record<string, Prediction>;
    tradeoffs: string; onParetoFront: boolean;
  }>;
  source: 'rule' | 'model';
}
interface OptimizationResult {
  decision: 'optimize' | 'skip' | 'rollback'; reasoning: string; plans: OptimizationPlan[];
  deployments: Array<{ service: string; deploymentId: string; configVersion: string; status: string }>;
  changesApplied: boolean; improvements?: Record<string, number>; durationMs: number;
}
interface OptimizationEvent {
  id: string; timestamp: number; type: 'analysis' | 'decision' | 'deployment' | 'rollback'; service: string;
  triggeredBy: 'timer' | 'threshold' | 'event' | 'manual'; triggerDetails?: any;
  previousConfig?: LLMConfig; proposedConfig?: LLMConfig;
  decision: 'optimize' | 'skip' | 'rollback'; reasoning: string; confidence?: number;
  predictedImprovement?: Record<string, number>; actualImprovement?: Record<string, number>;
  executed: boolean; executionStrategy?: string; executionDurationMs?: number; success?: boolean;
  errors?: string[];
}
type ControlLoopState = 'IDLE' | 'COLLECTING' | 'ANALYZING' | 'DECIDING' | 'VALIDATING'
  | 'DEPLOYING' | 'MONITORING' | 'ROLLING_BACK' | 'PAUSED' | 'STOPPED' | 'ERROR';
type Event = ConfigChangeEvent | OptimizationCompleteEvent | DeploymentEvent | RollbackEvent | AnomalyEvent;

// More fields than an interface has are no fault; fewer, or others, are.
declare function conforms<T>(): <S extends T>(value: S) => void;
