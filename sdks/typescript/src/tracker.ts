/** Measures one LLM call and reports it. */

import type { Config } from './config.js';
import type { Metric, ScopeOfUnit } from './types.js';

const FAILED = 500;

export interface TrackOptions extends ScopeOfUnit {
  service: string;
  endpoint: string;
}

/** Where trackers get their configurations and hand in their reports. */
export interface TrackerDesk {
  fetch(options: TrackOptions): Promise<Config>;
  /** What this call context was handed last. */
  lastConfig(service: string): Config | undefined;
  report(metric: Metric): void;
  refuse(reason: string): void;
}

/**
 * Times a call from its construction to `end`, which reports it in the background.
 *
 * Provider, model and version are those of the configuration that this call context was last handed, unless
 * set here. A call without an error needs its tokens: without them it is not reported, since 0 would pass for
 * a free call.
 */
export class RequestTracker {
  readonly #desk: TrackerDesk;
  readonly #options: TrackOptions;
  readonly #started = performance.now();
  readonly #fields: Partial<Metric> = {};
  readonly #tags: Record<string, string> = {};
  #config: Config | null | undefined;
  #ended = false;

  constructor(desk: TrackerDesk, options: TrackOptions) {
    this.#desk = desk;
    this.#options = options;
  }

  /** The configuration for this call: one for all that ask, of the tracker's service, endpoint and unit. */
  async getConfig(): Promise<Config> {
    return (this.#config ??= await this.#desk.fetch(this.#options));
  }

  /** Tokens of the prompt and of the answer. */
  setTokens({ input, output }: { input: number; output: number }): void {
    this.#fields.tokensInput = input;
    this.#fields.tokensOutput = output;
    this.#fields.tokensTotal = input + output;
  }

  /** What the call cost; without it the server prices the tokens. */
  setCost(usd: number): void {
    this.#fields.costUsd = usd;
  }

  /** What served the call, where it is not what the configuration says. */
  setModel({ provider, model }: { provider: string; model: string }): void {
    this.#fields.provider = provider;
    this.#fields.model = model;
  }

  /** The configuration that served the call, where it was not handed out in this call context; null: none. */
  setConfig(config: Config | null): void {
    this.#config = config;
  }

  /** Names the call, so that `reportQuality` can refer to it. */
  setRequestId(requestId: string): void {
    this.#tags.requestId = requestId;
  }

  /** A label of one's own. */
  setTag(name: string, value: string): void {
    this.#tags[name] = value;
  }

  /** Says that the call failed, where nothing is thrown. */
  setError(errorType: string, { statusCode = FAILED }: { statusCode?: number } = {}): void {
    this.#fields.errorType = errorType;
    this.#fields.statusCode = statusCode;
  }

  /** How often the call was tried again before it ended as it did. */
  setRetries(count: number): void {
    this.#fields.retryCount = count;
  }

  /**
   * Reports the call, once. `error`, where one was thrown, makes it a failed one, with the error's `status` or
   * `statusCode` where it has one, else 500. An aborted call is not reported: it says nothing of the model.
   */
  end(error?: unknown): void {
    if (this.#ended) return;
    this.#ended = true;
    const latencyMs = performance.now() - this.#started;
    if (error !== undefined) {
      if ((error as Error | null)?.name === 'AbortError') return;
      this.setError(errorType(error), { statusCode: statusOf(error) });
    }
    this.#report(latencyMs);
  }

  #report(latencyMs: number): void {
    const fields = this.#fields;
    const config = this.#config === undefined ? this.#desk.lastConfig(this.#options.service) : this.#config;
    if (config?.version !== undefined) this.#tags.configVersion ??= config.version;
    const provider = fields.provider ?? config?.provider;
    const model = fields.model ?? config?.model;
    if (provider === undefined || model === undefined) {
      this.#desk.refuse('a tracked call has no model: call setModel or getConfig before it ends');
      return;
    }
    if (fields.tokensTotal === undefined && fields.errorType === undefined) {
      this.#desk.refuse('a tracked call has no tokensTotal: call setTokens before it ends');
      return;
    }
    this.#desk.report({
      timestamp: Date.now(),
      service: this.#options.service,
      endpoint: this.#options.endpoint,
      provider,
      model,
      latencyMs,
      tokensInput: fields.tokensInput ?? 0,
      tokensOutput: fields.tokensOutput ?? 0,
      tokensTotal: fields.tokensTotal ?? 0,
      costUsd: fields.costUsd,
      statusCode: fields.statusCode ?? 200,
      errorType: fields.errorType,
      retryCount: fields.retryCount,
      tags: this.#tags,
    });
  }
}

function errorType(error: unknown): string {
  if (!(error instanceof Error)) return typeof error;
  return error.name === 'Error' ? error.constructor.name : error.name;
}

function statusOf(error: unknown): number | undefined {
  const { status, statusCode } = (error ?? {}) as { status?: unknown; statusCode?: unknown };
  return [status, statusCode].find((code): code is number => typeof code === 'number' && code >= 400);
}
