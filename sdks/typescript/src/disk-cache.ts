/** The last answers of the server, in a file that outlives the process. */

import { randomUUID } from 'node:crypto';
import { mkdirSync, readFileSync } from 'node:fs';
import { rename, rm, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';

import { ScopeAnswer } from './config.js';

interface Kept {
  body: Record<string, unknown>;
  etag?: string;
}

/**
 * Read once, at construction; written in the background after each change, whole or not at all. A file that
 * cannot be read is as good as none, one that cannot be written is told of by `onWarning`.
 */
export class DiskCache {
  readonly #path: string;
  readonly #onWarning: (error: Error) => void;
  readonly #kept = new Map<string, Kept>();
  #changed = false;
  #writing: Promise<void> | undefined;

  constructor(path: string, onWarning: (error: Error) => void) {
    this.#path = path;
    this.#onWarning = onWarning;
    try {
      mkdirSync(dirname(path), { recursive: true });
      for (const [key, kept] of Object.entries(JSON.parse(readFileSync(path, 'utf8')))) {
        this.#kept.set(key, kept as Kept);
      }
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') onWarning(error as Error);
    }
  }

  /** What was kept for a scope. Its rollout counts as watched by the local clock, the only one there is. */
  get(key: string): ScopeAnswer | undefined {
    const kept = this.#kept.get(key);
    if (kept === undefined) return undefined;
    try {
      return ScopeAnswer.parse(kept.body, kept.etag, Date.now() - performance.now());
    } catch (error) {
      this.#onWarning(error as Error);
      return undefined;
    }
  }

  set(key: string, { body, etag }: ScopeAnswer): void {
    this.#kept.set(key, { body, etag });
    this.#changed = true;
    this.#writing ??= this.#write().finally(() => (this.#writing = undefined));
  }

  /** Resolves once what was set is on disk, or could not be written. */
  async written(): Promise<void> {
    await this.#writing;
  }

  async #write(): Promise<void> {
    while (this.#changed) {
      this.#changed = false;
      const draft = `${this.#path}.${randomUUID()}`;
      try {
        await writeFile(draft, JSON.stringify(Object.fromEntries(this.#kept)), { mode: 0o600 });
        await rename(draft, this.#path);
      } catch (error) {
        this.#onWarning(error as Error);
        await rm(draft, { force: true }).catch(() => undefined);
      }
    }
  }
}
