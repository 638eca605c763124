/**
 * Errors that the client throws.
 *
 *     OptimizerError
 *     ├── NoAnswerError                       refused, reset, timed out: no answer came; retryable
 *     ├── UnexpectedAnswerError               an answer that is not the API's (a proxy's page, broken JSON)
 *     └── APIError                            the API's own error, by code:
 *         ├── InvalidRequestError             INVALID_REQUEST       400, 405, 413, 415
 *         ├── UnauthorizedError               UNAUTHORIZED          401
 *         ├── ForbiddenError                  FORBIDDEN             403
 *         ├── NotFoundError                   NOT_FOUND             404
 *         ├── ConflictError                   CONFLICT              409, 412
 *         ├── ConstraintViolationError        CONSTRAINT_VIOLATION  422, `details` is the ValidationResult
 *         ├── RateLimitedError                RATE_LIMITED          429, retryable
 *         ├── InternalError                   INTERNAL_ERROR        500
 *         ├── OptimizationFailedError         OPTIMIZATION_FAILED   500
 *         ├── DeploymentFailedError           DEPLOYMENT_FAILED     500
 *         ├── RollbackFailedError             ROLLBACK_FAILED       500
 *         ├── DatabaseError                   DATABASE_ERROR        503, retryable
 *         ├── ServiceUnavailableError         SERVICE_UNAVAILABLE   503, retryable
 *         └── ServerTimeoutError              TIMEOUT               504, retryable
 */

const RETRYABLE_STATUSES = new Set([429, 502, 503, 504]);

export interface ErrorContext {
  /** The HTTP status, absent where no answer came. */
  status?: number;
  /** The answer's body, decoded where it is JSON. */
  body?: unknown;
  /** Names the request in the server's log. */
  requestId?: string;
  /** Whether the same request may succeed later. */
  retryable?: boolean;
  /** Milliseconds that the server asks to wait. */
  retryAfter?: number;
  /** What the API adds to its message. */
  details?: unknown;
  cause?: unknown;
}

/** The base of all of them. `code` is the API's code, `NO_ANSWER` or `UNEXPECTED_ANSWER`. */
export class OptimizerError extends Error {
  readonly status: number | undefined;
  readonly body: unknown;
  readonly requestId: string | undefined;
  readonly retryable: boolean;
  readonly retryAfter: number | undefined;
  readonly details: unknown;

  constructor(
    readonly code: string,
    message: string,
    context: ErrorContext = {},
  ) {
    super(message, context.cause === undefined ? undefined : { cause: context.cause });
    this.name = new.target.name;
    this.status = context.status;
    this.body = context.body;
    this.requestId = context.requestId;
    this.retryable = context.retryable ?? false;
    this.retryAfter = context.retryAfter;
    this.details = context.details;
  }
}

/** The connection was refused, broke, or took too long. */
export class NoAnswerError extends OptimizerError {
  constructor(message: string, context?: ErrorContext) {
    super('NO_ANSWER', message, context);
  }
}

/** Something answered, but not as the optimizer's API does. */
export class UnexpectedAnswerError extends OptimizerError {
  constructor(message: string, context?: ErrorContext) {
    super('UNEXPECTED_ANSWER', message, context);
  }
}

/** An error in the API's format. */
export class APIError extends OptimizerError {}
export class InvalidRequestError extends APIError {}
export class UnauthorizedError extends APIError {}
export class ForbiddenError extends APIError {}
export class NotFoundError extends APIError {}
export class ConflictError extends APIError {}
export class ConstraintViolationError extends APIError {}
export class RateLimitedError extends APIError {}
export class InternalError extends APIError {}
export class OptimizationFailedError extends APIError {}
export class DeploymentFailedError extends APIError {}
export class RollbackFailedError extends APIError {}
export class DatabaseError extends APIError {}
export class ServiceUnavailableError extends APIError {}
export class ServerTimeoutError extends APIError {}

const BY_CODE: ReadonlyMap<string, typeof APIError> = new Map([
  ['INVALID_REQUEST', InvalidRequestError],
  ['UNAUTHORIZED', UnauthorizedError],
  ['FORBIDDEN', ForbiddenError],
  ['NOT_FOUND', NotFoundError],
  ['CONFLICT', ConflictError],
  ['CONSTRAINT_VIOLATION', ConstraintViolationError],
  ['RATE_LIMITED', RateLimitedError],
  ['INTERNAL_ERROR', InternalError],
  ['OPTIMIZATION_FAILED', OptimizationFailedError],
  ['DEPLOYMENT_FAILED', DeploymentFailedError],
  ['ROLLBACK_FAILED', RollbackFailedError],
  ['DATABASE_ERROR', DatabaseError],
  ['SERVICE_UNAVAILABLE', ServiceUnavailableError],
  ['TIMEOUT', ServerTimeoutError],
]);

/** Whether the API itself has said no, for good. A proxy's page is no refusal. */
export function refused(error: unknown): boolean {
  return error instanceof APIError && !error.retryable;
}

/** The error that a non-2xx answer means. A code that this version does not know gives a plain `APIError`. */
export function errorFromAnswer(
  status: number,
  body: unknown,
  requestId: string | undefined,
  retryAfter: number | undefined,
): OptimizerError {
  const answer = (typeof body === 'object' && body !== null ? body : {}) as Record<string, unknown>;
  const error = (typeof answer.error === 'object' && answer.error !== null ? answer.error : {}) as Record<string, unknown>;
  if (typeof error.code !== 'string') {
    const retryable = RETRYABLE_STATUSES.has(status);
    return new UnexpectedAnswerError(`HTTP ${status} without the API's error format`, {
      status, body, requestId, retryable, retryAfter,
    });
  }
  const Known = BY_CODE.get(error.code) ?? APIError;
  return new Known(error.code, String(error.message ?? ''), {
    status,
    body,
    requestId: typeof answer.requestId === 'string' ? answer.requestId : requestId,
    retryable: error.retryable === true,
    retryAfter,
    details: error.details,
  });
}
