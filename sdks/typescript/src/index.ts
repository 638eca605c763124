/** Client of LLM Auto-Optimizer: fetch LLM configuration, report what each call cost and how good it was. */

export { OptimizerClient, type ClientOptions } from './client.js';
export type { Config } from './config.js';
export {
  APIError,
  ConflictError,
  ConstraintViolationError,
  DatabaseError,
  DeploymentFailedError,
  ForbiddenError,
  InternalError,
  InvalidRequestError,
  NoAnswerError,
  NotFoundError,
  OptimizationFailedError,
  OptimizerError,
  RateLimitedError,
  RollbackFailedError,
  ServerTimeoutError,
  ServiceUnavailableError,
  UnauthorizedError,
  UnexpectedAnswerError,
} from './errors.js';
export type { RequestTracker, TrackOptions } from './tracker.js';
export type * from './types.js';
