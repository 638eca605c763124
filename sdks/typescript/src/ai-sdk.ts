/**
 * Middleware for the AI SDK's `wrapLanguageModel`: calls are made with the optimizer's configuration, and reported.
 *
 * Written against the shape that the middleware of the AI SDK 6 ('v3') and 7 ('v4') have in common, so that
 * neither need be installed.
 */

import type { OptimizerClient } from './client.js';
import type { Config } from './config.js';
import type { RequestTracker } from './tracker.js';

interface CallSettings {
  temperature?: number;
  topP?: number;
  topK?: number;
  maxOutputTokens?: number;
  stopSequences?: string[];
}

interface Model {
  readonly provider: string;
  readonly modelId: string;
}

interface Readable {
  getReader(): { read(): Promise<{ done: boolean; value?: unknown }>; cancel(reason?: unknown): Promise<void> };
}

export interface OptimizerMiddlewareOptions<V extends 'v3' | 'v4'> {
  service: string;
  endpoint: string;
  /** Who is served, where it is known; a function is asked at each call. */
  unit?: string | (() => string | undefined);
  /** 'v3', the default, for the AI SDK 6; 'v4' for 7. */
  specificationVersion?: V;
  /**
   * The model that a configuration names, such as `(config) => createOpenAI()(config.model)`, where it is to be
   * called in place of the wrapped one. Undefined: the wrapped one is. Without this option the wrapped model
   * serves every call, and one that the configuration does not name is reported under its own name alone.
   */
  model?: (config: Config) => any;
}

export interface OptimizerMiddleware<V extends 'v3' | 'v4'> {
  specificationVersion: V;
  transformParams<P extends CallSettings>(call: { params: P }): Promise<P>;
  wrapGenerate<R>(call: { doGenerate: () => PromiseLike<R>; params: object; model: Model }): Promise<R>;
  wrapStream<R extends { stream: Readable }>(call: {
    doStream: () => PromiseLike<R>;
    params: object;
    model: Model;
  }): Promise<R>;
}

/**
 * What the caller sets itself beats the configuration. Where no configuration can be had, the call is made as it
 * is. A stream is reported when it ends.
 */
export function optimizerMiddleware<V extends 'v3' | 'v4' = 'v3'>(
  client: OptimizerClient,
  options: OptimizerMiddlewareOptions<V>,
): OptimizerMiddleware<V> {
  const { service, endpoint } = options;
  const unit = (): string | undefined => (typeof options.unit === 'function' ? options.unit() : options.unit);
  const configs = new WeakMap<object, Config>();

  /** The tracker of a call, and the model that is to serve it if that is not the wrapped one. */
  function begin(params: object, wrapped: Model): { tracker: RequestTracker; chosen: any } {
    const config = configs.get(params);
    const chosen = config && options.model?.(config);
    const { provider, modelId } = (chosen ?? wrapped) as Model;
    const named = config?.model === modelId;
    const tracker = client.startRequest({ service, endpoint });
    tracker.setConfig(named ? config : null);
    // The AI SDK names the API too, as in 'openai.chat'.
    tracker.setModel({ provider: named ? config.provider : provider.split('.')[0]!, model: modelId });
    return { tracker, chosen };
  }

  return {
    specificationVersion: options.specificationVersion ?? ('v3' as V),

    async transformParams({ params }) {
      const config = await client.getConfig({ service, endpoint, unit: unit() }).catch(() => undefined);
      if (config === undefined) return params;
      const given = Object.entries(params).filter(([, value]) => value !== undefined);
      const configured = { ...params, ...settings(config), ...Object.fromEntries(given) };
      configs.set(configured, config);
      return configured;
    },

    async wrapGenerate({ doGenerate, params, model }) {
      const { tracker, chosen } = begin(params, model);
      try {
        const result = await (chosen === undefined ? doGenerate() : chosen.doGenerate(params));
        setTokens(tracker, result);
        tracker.end();
        return result;
      } catch (error) {
        tracker.end(error);
        throw error;
      }
    },

    async wrapStream({ doStream, params, model }) {
      const { tracker, chosen } = begin(params, model);
      try {
        const result = await (chosen === undefined ? doStream() : chosen.doStream(params));
        return { ...result, stream: observed(result.stream, tracker) };
      } catch (error) {
        tracker.end(error);
        throw error;
      }
    },
  };
}

function settings({ temperature, topP, topK, maxTokens, stopSequences }: Config): CallSettings {
  return {
    temperature,
    topP,
    maxOutputTokens: maxTokens,
    ...(topK !== undefined && { topK }),
    ...(stopSequences !== undefined && { stopSequences }),
  };
}

/** The same parts, watched for what the call used and whether it failed. One that is cancelled is not reported. */
function observed(stream: Readable, tracker: RequestTracker): ReadableStream {
  const reader = stream.getReader();
  return new ReadableStream({
    async pull(controller) {
      try {
        const { done, value } = await reader.read();
        if (done) {
          tracker.end();
          controller.close();
          return;
        }
        const { type, error } = value as { type?: unknown; error?: unknown };
        if (type === 'finish') setTokens(tracker, value);
        if (type === 'error') tracker.end(error ?? new Error('the stream carried an error'));
        controller.enqueue(value);
      } catch (error) {
        tracker.end(error);
        throw error;
      }
    },
    cancel: (reason) => reader.cancel(reason),
  });
}

/** From the usage of a result or of a stream's last part; a call whose usage is unknown is not reported. */
function setTokens(tracker: RequestTracker, from: unknown): void {
  const { usage } = from as { usage?: { inputTokens?: { total?: number }; outputTokens?: { total?: number } } };
  const input = usage?.inputTokens?.total;
  const output = usage?.outputTokens?.total;
  if (input !== undefined && output !== undefined) tracker.setTokens({ input, output });
}
