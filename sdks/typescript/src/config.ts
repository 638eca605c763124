/** The configuration of an LLM call, and a scope's answer from which it is drawn. */

import { takesCanary } from './assignment.js';
import { UnexpectedAnswerError } from './errors.js';
import type { Answer } from './transport.js';
import type { LLMConfig } from './types.js';

/**
 * What to call and how, and the version that says so.
 *
 * `version` is absent only where this is the caller's own default. `deploymentId` and `isCanary` tell of the
 * rollout that it came from, if one runs.
 */
export interface Config extends Readonly<LLMConfig> {
  readonly version?: string;
  readonly deploymentId?: string;
  readonly isCanary: boolean;
}

/** Two versions that share a scope's traffic; `watchedUntil` is in ms of the local monotonic clock. */
interface Rollout {
  deploymentId: string;
  trafficPercent: number;
  watchedUntil: number;
  control: Config;
  canary: Config;
}

/** The server's clock by the local monotonic one: add `performance.now()`, and it is ms since the epoch. */
export type ClockOffset = number;

/** What the server says of a scope. */
export class ScopeAnswer {
  private constructor(
    readonly etag: string | undefined,
    readonly config: Config,
    readonly rollout: Rollout | undefined,
  ) {}

  /** From the body of `GET /config/current`, `/config/service/{name}` or an event of the stream. */
  static parse(body: Record<string, unknown>, etag: string | undefined, clock: ClockOffset): ScopeAnswer {
    const rollout = body.rollout === undefined || body.rollout === null ? undefined : parseRollout(body.rollout, clock);
    return new ScopeAnswer(etag, parseConfig(body), rollout);
  }

  /** What holds whether or not anybody watches a canary. */
  lasting(): Config {
    return this.rollout?.control ?? this.config;
  }

  /** The configuration of this unit now; without a unit, drawn by the share. */
  draw(unit: string | undefined): Config {
    const { rollout } = this;
    if (rollout === undefined) return this.config;
    if (performance.now() >= rollout.watchedUntil) return rollout.control;
    const canary = takesCanary(rollout.deploymentId, unit, rollout.trafficPercent);
    return canary ? rollout.canary : rollout.control;
  }
}

/** The server's `Date` counts whole seconds, so half of one is added; without one, our own clock. */
export function clockOffset({ headers, receivedAt }: Pick<Answer, 'headers' | 'receivedAt'>): ClockOffset {
  const date = headers.date === undefined ? Number.NaN : Date.parse(headers.date) + 500;
  return (Number.isNaN(date) ? Date.now() : date) - receivedAt;
}

/** The caller's own configuration, served where the optimizer has given none. */
export function defaultConfig(config: LLMConfig): Config {
  return Object.freeze({ ...config, isCanary: false });
}

/** The API's LLMConfig: nothing of version or rollout. */
export function toLLMConfig(config: LLMConfig & Partial<Config>): LLMConfig {
  const { version, deploymentId, isCanary, ...wire } = config;
  return wire;
}

const REQUIRED = {
  provider: 'string',
  model: 'string',
  temperature: 'number',
  topP: 'number',
  maxTokens: 'number',
  streaming: 'boolean',
  functionCalling: 'boolean',
  visionEnabled: 'boolean',
} as const;

function parseConfig(answer: unknown, rollout: { deploymentId?: string; isCanary?: boolean } = {}): Config {
  const { version, config } = object(answer);
  const fields = object(config);
  const wrong = Object.entries(REQUIRED).filter(([name, type]) => typeof fields[name] !== type);
  if (typeof version !== 'string' || wrong.length > 0) {
    throw new UnexpectedAnswerError('not a configuration answer', { body: answer });
  }
  const given = Object.entries(fields).filter(([, value]) => value !== null);
  const known = Object.fromEntries(given) as unknown as LLMConfig;
  return Object.freeze({ ...known, version, isCanary: false, ...rollout });
}

function parseRollout(answer: unknown, clock: ClockOffset): Rollout {
  const { deploymentId, trafficPercent, watchedUntil, control, canary } = object(answer);
  if (typeof deploymentId !== 'string' || typeof trafficPercent !== 'number' || typeof watchedUntil !== 'number') {
    throw new UnexpectedAnswerError('not a rollout', { body: answer });
  }
  return {
    deploymentId,
    trafficPercent,
    watchedUntil: watchedUntil - clock,
    control: parseConfig(control, { deploymentId }),
    canary: parseConfig(canary, { deploymentId, isCanary: true }),
  };
}

function object(value: unknown): Record<string, unknown> {
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
}
