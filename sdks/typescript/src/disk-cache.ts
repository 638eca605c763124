/** The last known configurations, in a folder that outlives the process. */

import { createHash, randomUUID } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { mkdir, open, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';

import { ScopeAnswer, toLLMConfig, type Config } from './config.js';
import type { Scope } from './types.js';

interface Kept {
  server: string;
  service?: string;
  endpoint?: string;
  version: string;
  config: object;
}

/**
 * A file per scope of a server, in a folder that processes may share: read once, at construction; written in
 * the background after each change, whole or not at all. A canary is never kept: after a restart nobody knows
 * whether it is still watched. A folder that cannot be read or written is told of by `onWarning`.
 */
export class DiskCache {
  readonly #folder: string;
  readonly #server: string;
  readonly #onWarning: (error: Error) => void;
  readonly #kept = new Map<string, ScopeAnswer>();
  #writing: Promise<void> = Promise.resolve();

  constructor(folder: string, server: string, onWarning: (error: Error) => void) {
    this.#folder = folder;
    this.#server = server;
    this.#onWarning = onWarning;
    for (const name of this.#names()) {
      try {
        const kept = JSON.parse(readFileSync(join(folder, name), 'utf8')) as Kept;
        const of = nameOf(kept.server, kept);
        if (kept.server === server) this.#kept.set(of, ScopeAnswer.parse({ ...kept }, undefined, 0));
      } catch (error) {
        onWarning(error as Error);
      }
    }
  }

  /** What was kept for a scope. */
  get(scope: Scope): ScopeAnswer | undefined {
    return this.#kept.get(nameOf(this.#server, scope));
  }

  /** Keeps what holds whether or not anybody watches a canary. */
  set(scope: Scope, answer: ScopeAnswer): void {
    const { version, ...config } = answer.lasting();
    const name = nameOf(this.#server, scope);
    if (version === undefined || this.#kept.get(name)?.config.version === version) return;
    const kept: Kept = { server: this.#server, ...scope, version, config: toLLMConfig(config as Config) };
    this.#kept.set(name, ScopeAnswer.parse({ ...kept }, undefined, 0));
    this.#writing = this.#writing.then(() => this.#write(name, JSON.stringify(kept)));
  }

  /** Resolves once what was set is on disk, or could not be written. */
  async written(): Promise<void> {
    await this.#writing;
  }

  #names(): string[] {
    try {
      return readdirSync(this.#folder).filter((name) => name.endsWith('.config.json'));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') this.#onWarning(error as Error);
      return [];
    }
  }

  async #write(name: string, text: string): Promise<void> {
    const draft = join(this.#folder, `${name}.${randomUUID()}`);
    try {
      await mkdir(this.#folder, { recursive: true });
      const file = await open(draft, 'w', 0o600);
      await file.writeFile(text).then(() => file.sync()).finally(() => file.close());
      await rename(draft, join(this.#folder, name));
    } catch (error) {
      this.#onWarning(error as Error);
      await rm(draft, { force: true }).catch(() => undefined);
    }
  }
}

/** A scope's file, named as the other SDKs do. */
export function nameOf(server: string, { service = '', endpoint = '' }: Scope): string {
  const digest = createHash('sha256').update([server, service, endpoint].join('\n')).digest('hex');
  return `${digest.slice(0, 32)}.config.json`;
}
