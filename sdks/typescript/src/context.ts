/**
 * The configurations that a call context was handed last.
 *
 * AsyncLocalStorage makes this right for calls that run at the same time: what one request was given is never
 * taken for another's. A context is entered while the caller still runs, and its slot filled once the answer
 * is there, since what is entered after an `await` does not reach the caller.
 */

import { AsyncLocalStorage } from 'node:async_hooks';

import type { Config } from './config.js';

interface Slot {
  config: Config | undefined;
}

const GLOBAL = '';
const NONE: ReadonlyMap<string, Slot> = new Map();

export class HandedOut {
  readonly #storage = new AsyncLocalStorage<ReadonlyMap<string, Slot>>();

  /** Notes what was given for `service`, undefined being the global scope. */
  remember(service: string | undefined, config: Config): void {
    if (this.#storage.getStore()?.get(service ?? GLOBAL)?.config !== config) this.#enter(service, { config });
  }

  /** Makes room for what will be given. Call it before the first `await`; the result fills the slot. */
  expect(service: string | undefined): (config: Config) => void {
    const slot: Slot = { config: undefined };
    this.#enter(service, slot);
    return (config) => {
      slot.config = config;
    };
  }

  /** What was given for `service`, else for the global scope, which a service may inherit. */
  last(service: string | undefined): Config | undefined {
    const known = this.#storage.getStore();
    return known?.get(service ?? GLOBAL)?.config ?? known?.get(GLOBAL)?.config;
  }

  /** Runs `fn` in a context of its own, which starts as the caller's. */
  run<T>(fn: () => T): T {
    return this.#storage.run(this.#storage.getStore() ?? NONE, fn);
  }

  #enter(service: string | undefined, slot: Slot): void {
    this.#storage.enterWith(new Map(this.#storage.getStore()).set(service ?? GLOBAL, slot));
  }
}
