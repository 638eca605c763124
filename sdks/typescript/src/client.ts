/** The client that applications use. */

import { randomUUID } from 'node:crypto';
import { EventEmitter } from 'node:events';

import { defaultConfig, toLLMConfig, type Config } from './config.js';
import { ConfigScope } from './config-scope.js';
import { ConfigSource } from './config-source.js';
import { HandedOut } from './context.js';
import { DiskCache } from './disk-cache.js';
import { FLUSH_AT_EXIT, ReportQueue } from './queue.js';
import { RequestTracker, type TrackerDesk, type TrackOptions } from './tracker.js';
import { decode, post, Transport, type Request } from './transport.js';
import type * as types from './types.js';

const MAX_SCOPES = 100;

export interface ClientOptions {
  /** The server's address, such as `http://optimizer:8080`. */
  endpoint: string;
  /** A key with the scopes `ingest` and `read`; by default `OPTIMIZER_API_KEY`, if it is set. */
  apiKey?: string;
  /** Milliseconds that one try may take: 5,000. */
  timeout?: number;
  /** How often a failed call is tried again, where that may help: 3. */
  retries?: number;
  /** Milliseconds between polls of a configuration while it cannot be followed by stream: 30,000. */
  pollInterval?: number;
  /** Whether configurations are followed by stream (server-sent events) at all: true. */
  stream?: boolean;
  /** A folder in which the last known configurations are kept for the next start. */
  cacheDir?: string;
  /** What is served while the optimizer has never given a configuration. */
  defaultConfig?: types.LLMConfig;
  /** How many reports may wait to be sent: 10,000. Past it the oldest give way. */
  queueSize?: number;
}

interface Events {
  /** What this instance serves for a scope has changed, or was fetched for the first time. */
  configUpdate: [config: Config, scope: types.Scope];
  /** Something failed in the background: the application goes on with what it has. */
  warning: [error: Error];
}

/**
 * Fetches configurations, reports calls, and steers the optimizer.
 *
 * Every method that talks to the server rejects with `OptimizerError` or one of its subclasses.
 */
export class OptimizerClient extends EventEmitter {
  readonly #transport: Transport;
  readonly #source: ConfigSource;
  readonly #queue: ReportQueue;
  readonly #handedOut = new HandedOut();
  readonly #desk: TrackerDesk = {
    fetch: (options) => this.getConfig(options),
    lastConfig: (service) => this.#handedOut.last(service),
    report: (metric) => this.#queue.put(metric),
    refuse: (reason) => this.#queue.drop(1, reason),
  };
  readonly #scopes = new Map<string, ConfigScope>();
  #uses = 0;
  readonly #disk: DiskCache | undefined;
  readonly #default: Config | undefined;
  readonly #pollInterval: number;
  readonly #stream: boolean;

  constructor(options: ClientOptions) {
    super();
    const { endpoint, timeout = 5_000, retries = 3, pollInterval = 30_000, stream = true, queueSize = 10_000 } = options;
    const apiKey = usableKey(options.apiKey ?? process.env.OPTIMIZER_API_KEY);
    const warn = (error: Error): void => this.#warn(error);
    this.#transport = new Transport({ endpoint, apiKey, timeout, retries });
    this.#source = new ConfigSource(this.#transport, randomUUID());
    this.#queue = new ReportQueue(this.#transport, queueSize, warn);
    const { cacheDir } = options;
    this.#disk = cacheDir === undefined ? undefined : new DiskCache(cacheDir, this.#transport.base, warn);
    this.#default = options.defaultConfig && defaultConfig(options.defaultConfig);
    this.#pollInterval = pollInterval;
    this.#stream = stream;
  }

  override on<E extends keyof Events>(event: E, listener: (...given: Events[E]) => void): this {
    return super.on(event, listener);
  }

  override once<E extends keyof Events>(event: E, listener: (...given: Events[E]) => void): this {
    return super.once(event, listener);
  }

  override off<E extends keyof Events>(event: E, listener: (...given: Events[E]) => void): this {
    return super.off(event, listener);
  }

  // Configuration

  /**
   * The configuration to call with: of a service, of one of its endpoints, or with neither the global one.
   *
   * Meant to be asked before every call: only the first waits for the server, and can fail. Later ones are
   * answered from memory, which is kept fresh in the background. While a rollout runs, `unit` decides who gets
   * the canary; without a unit each call is drawn by the canary's share. A canary that nobody watches any more
   * is not served. If the server cannot be reached, the last answer holds.
   */
  getConfig(of: types.ScopeOfUnit = {}): Promise<Config> {
    const scope = this.#scope(of);
    if (scope.isReady) return Promise.resolve(this.#handOut(of, scope.draw(of.unit)!));
    const handOut = this.#handedOut.expect(of.service);
    return scope.ready().then(() => {
      const config = scope.draw(of.unit)!;
      handOut(config);
      return config;
    });
  }

  /** The configuration of a unit, from memory: no I/O. Undefined until the scope was fetched, kept or given. */
  configFor(unit: string, of: types.Scope = {}): Config | undefined {
    const config = this.#scope(of).draw(unit);
    return config && this.#handOut(of, config);
  }

  /** What this instance serves now, from memory: fetched, else kept on disk, else the default given. */
  getCurrentConfig(of: types.Scope = {}): Config | undefined {
    return this.configFor(this.#source.instanceId, of);
  }

  /**
   * Starts to follow a scope, and resolves once its configuration is there; `interval` is that of polls (ms).
   * Rejects where the first fetch fails and there is nothing to serve; it goes on being tried all the same.
   */
  startSync({ interval, ...of }: { interval?: number } & types.Scope = {}): Promise<void> {
    const scope = this.#scope(of);
    scope.holders += 1;
    if (interval !== undefined) scope.pollEvery(interval);
    return scope.ready().finally(() => scope.follow());
  }

  /**
   * Follows a scope: `callback` is given its configuration as soon as it is there, and at each change. Never
   * throws; what fails is told by `warning`. Gives a function that ends the callbacks.
   */
  startConfigSync(callback: (config: Config) => void, of: types.Scope = {}): () => void {
    const key = keyOf(of);
    const listener = (config: Config, changed: types.Scope): void => {
      if (keyOf(changed) === key) callback(config);
    };
    this.on('configUpdate', listener);
    const scope = this.#scope(of);
    const known = scope.isReady ? scope.draw(this.#source.instanceId) : undefined;
    if (known !== undefined) queueMicrotask(() => this.#guard(() => callback(known)));
    this.startSync(of).catch((error: Error) => this.#warn(error));
    let ended = false;
    return () => {
      if (!ended) scope.holders -= 1;
      ended = true;
      this.off('configUpdate', listener);
    };
  }

  /** Changes a scope's configuration, rolled out by `deploymentStrategy`, by default the policy's. */
  updateConfig(update: types.ConfigUpdate): Promise<types.ConfigUpdateResult> {
    return this.#call(post('/config/update', { ...update, config: toLLMConfig(update.config) }));
  }

  /** Brings an earlier version back, as a rollout of its own. */
  rollbackConfig(back: types.ConfigRollback): Promise<types.ConfigUpdateResult> {
    return this.#call(post('/config/rollback', back));
  }

  /** A service's versions or its endpoint's, without a service those of all scopes, the newest first. */
  getVersions({ service, endpoint, limit, offset }: types.Scope & types.Page = {}): Promise<types.ConfigVersions> {
    return this.#call(get('/config/versions', { service, endpoint, limit, offset }));
  }

  // Reports

  /** Reports one call, and gives the server's answer; `trackRequest` does not wait for it. */
  reportMetrics(metric: types.Metric): Promise<types.IngestResult> {
    return this.reportMetricsBatch([metric]);
  }

  /** Reports calls. The server takes the good ones and names the others, incomplete ones too, in `errors`. */
  reportMetricsBatch(metrics: ReadonlyArray<Partial<types.Metric>>): Promise<types.IngestResult> {
    return this.#call(post('/metrics', { metrics: metrics.map((metric) => this.#completed(metric)) }));
  }

  /** Reports how good an answer was, 0..100. */
  reportQuality(quality: types.Quality): Promise<types.IngestResult> {
    return this.reportQualityBatch([quality]);
  }

  /** Reports how good answers were. The server takes the good ones and names the others in `errors`. */
  reportQualityBatch(evaluations: readonly types.Quality[]): Promise<types.IngestResult> {
    const completed = evaluations.map((quality) => {
      const version = this.#handedOut.last(quality.service)?.version;
      const named = quality.requestId !== undefined || quality.configVersion !== undefined;
      return named || version === undefined ? quality : { ...quality, configVersion: version };
    });
    return this.#call(post('/quality', { evaluations: completed }));
  }

  /**
   * Runs `fn`, times it, and reports it in the background; what `fn` gives or throws is passed on. The report
   * never fails the caller.
   */
  trackRequest<T>(options: TrackOptions, fn: (tracker: RequestTracker) => T | PromiseLike<T>): Promise<T> {
    return this.#handedOut.run(async () => {
      const tracker = this.startRequest(options);
      try {
        const result = await fn(tracker);
        tracker.end();
        return result;
      } catch (error) {
        tracker.end(error);
        throw error;
      }
    });
  }

  /** A tracker of a call that does not fit into a function, such as a stream: it reports at its `end`. */
  startRequest(options: TrackOptions): RequestTracker {
    return new RequestTracker(this.#desk, options);
  }

  /** How many tracked calls were never reported: refused, too many at once, or not sent by the end. */
  get droppedReports(): number {
    return this.#queue.dropped;
  }

  // Analytics and optimization

  /** Metrics over a time range, a series for each. */
  queryMetrics(query: types.MetricsQuery): Promise<types.MetricsQueryResult> {
    return this.#call(post('/analytics/metrics', query));
  }

  /** What the optimizer did, the newest first. */
  getHistory({ timeRange, ...query }: types.HistoryQuery = {}): Promise<types.History> {
    return this.#call(get('/analytics/history', { ...query, ...timeRange }));
  }

  /** Starts an optimization. */
  triggerOptimization(request: types.OptimizationRequest = {}): Promise<types.OptimizationStarted> {
    return this.#call(post('/optimize/trigger', request));
  }

  /** How far an optimization is, and what it came to. */
  getOptimization(optimizationId: string): Promise<types.OptimizationStatus> {
    return this.#call(get(`/optimize/${encodeURIComponent(optimizationId)}`));
  }

  // Deployments and policies

  /** Rollouts, the newest first. */
  listDeployments({ scope, open, limit, offset }: types.DeploymentQuery = {}): Promise<types.Deployments> {
    return this.#call(get('/deployments', { scope, open, limit, offset }));
  }

  /** A rollout: its steps, their verdicts, and the guardrails of each. */
  getDeployment(deploymentId: string): Promise<types.Deployment> {
    return this.#call(get(`/deployments/${encodeURIComponent(deploymentId)}`));
  }

  /** Holds a rollout at its share, and the time that its step has left. */
  pauseDeployment(deploymentId: string, reason?: string): Promise<types.Deployment> {
    return this.#steer(deploymentId, 'pause', reason);
  }

  /** Goes on with a paused or held rollout. */
  resumeDeployment(deploymentId: string, reason?: string): Promise<types.Deployment> {
    return this.#steer(deploymentId, 'resume', reason);
  }

  /** Lets a rollout that awaits approval go on. */
  approveDeployment(deploymentId: string, reason?: string): Promise<types.Deployment> {
    return this.#steer(deploymentId, 'approve', reason);
  }

  /** Ends a rollout with the new version for everybody. */
  promoteDeployment(deploymentId: string, reason?: string): Promise<types.Deployment> {
    return this.#steer(deploymentId, 'promote', reason);
  }

  /** Ends a rollout with the old version for everybody. */
  abortDeployment(deploymentId: string, reason?: string): Promise<types.Deployment> {
    return this.#steer(deploymentId, 'abort', reason);
  }

  /** A service's policy, defaults filled in. */
  getPolicy(service: string): Promise<types.Policy> {
    return this.#call(get(`/services/${encodeURIComponent(service)}`));
  }

  /** Sets a service's policy; what it leaves out is the default. */
  putPolicy(service: string, policy: types.Policy): Promise<types.Policy> {
    const headers = { 'content-type': 'application/json' };
    const path = `/services/${encodeURIComponent(service)}`;
    return this.#call({ method: 'PUT', path, headers, body: JSON.stringify(policy) });
  }

  /** How the server is. */
  getHealth(): Promise<types.Health> {
    return this.#call(get('/health'));
  }

  /** What the server is doing. */
  getStatus(): Promise<types.Status> {
    return this.#call(get('/status'));
  }

  // Life

  /** Resolves once every tracked call so far is reported; with false if `timeout` ms did not suffice. */
  flush(timeout: number = FLUSH_AT_EXIT): Promise<boolean> {
    return this.#queue.flush(timeout);
  }

  /** Reports what still waits, for at most `timeout` ms, and ends streams, polls and connections. */
  async close(timeout: number = FLUSH_AT_EXIT): Promise<void> {
    for (const scope of this.#scopes.values()) scope.stop();
    await this.#queue.close(timeout);
    await this.#disk?.written();
    this.#transport.close();
  }

  /** The scope's keeper, made at first; past `MAX_SCOPES` the longest unused that is not to be followed goes. */
  #scope(asked: types.Scope): ConfigScope {
    const key = keyOf(asked);
    const known = this.#scopes.get(key) ?? this.#begin(key, asked);
    known.used = this.#uses += 1;
    return known;
  }

  #begin(key: string, { service, endpoint }: types.Scope): ConfigScope {
    const of: types.Scope = { ...(service !== undefined && { service }), ...(endpoint !== undefined && { endpoint }) };
    const scope = new ConfigScope({
      scope: of,
      source: this.#source,
      interval: this.#pollInterval,
      stream: this.#stream,
      kept: this.#disk?.get(of),
      fallback: this.#default,
      onAnswer: (answered, answer) => this.#disk?.set(answered, answer),
      onChange: (changed, config) => this.#guard(() => this.emit('configUpdate', config, changed)),
      onWarning: (error) => this.#warn(error),
    });
    if (this.#scopes.size >= MAX_SCOPES) this.#evict();
    this.#scopes.set(key, scope);
    return scope;
  }

  #evict(): void {
    const free = [...this.#scopes].filter(([, { holders }]) => holders === 0);
    if (free.length === 0) return;
    const [key, oldest] = free.reduce((least, one) => (one[1].used < least[1].used ? one : least));
    oldest.stop();
    this.#scopes.delete(key);
  }

  #handOut(of: types.Scope, config: Config): Config {
    this.#handedOut.remember(of.service, config);
    return config;
  }

  /** A metric that names its version: the caller's `tags.configVersion`, else the one that this call context
   * was last handed for its service. */
  #completed(metric: Partial<types.Metric>): Partial<types.Metric> {
    const version = this.#handedOut.last(metric.service)?.version;
    if (version === undefined || metric.tags?.configVersion !== undefined) return metric;
    return { ...metric, tags: { ...metric.tags, configVersion: version } };
  }

  #steer(deploymentId: string, action: string, reason: string | undefined): Promise<types.Deployment> {
    return this.#call(post(`/deployments/${encodeURIComponent(deploymentId)}/${action}`, { reason }));
  }

  #call<T>(request: Request): Promise<T> {
    return this.#transport.call(request, (answer) => decode(answer) as T);
  }

  /** Runs the application's own listeners: what they throw does not end the following of configurations. */
  #guard(notify: () => void): void {
    try {
      notify();
    } catch (error) {
      this.#warn(error as Error);
    }
  }

  #warn(error: Error): void {
    this.emit('warning', error);
  }
}

function get(path: string, query: Request['query'] = {}): Request {
  return { method: 'GET', path, query };
}

function keyOf({ service, endpoint }: types.Scope): string {
  if (service === undefined && endpoint !== undefined) throw new TypeError('an endpoint needs its service');
  return endpoint === undefined ? (service ?? '') : `${service}:${endpoint}`;
}

/** The key without the white space that files and shells leave around it; undefined where it is empty. */
function usableKey(key: string | undefined): string | undefined {
  const trimmed = key?.trim();
  if (trimmed && !/^[\x21-\x7e]+$/.test(trimmed)) throw new TypeError('apiKey has characters that no key has');
  return trimmed || undefined;
}
