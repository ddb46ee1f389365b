/** @module One incarnation of a host: when it dies, nothing it waits for ever comes back. */
import type { DelayRange, SimRandom } from "./api.ts";
import type { Engine, Owner } from "./engine.ts";

/** A process of the simulator. Everything asynchronous that production code does goes through {@link SimProcess.later}. */
export class SimProcess implements Owner {
  isAlive = true;
  /** Chance of the environment of this process (delays, chunks), apart from what its code draws. */
  readonly chance: SimRandom;
  /** What is taken back when the process is dead and none of its code can be running any more. */
  readonly holdings = new Set<{ reclaim(): void }>();

  constructor(
    readonly engine: Engine,
    readonly hostName: string,
    readonly incarnation: number,
  ) {
    this.chance = engine.random.fork(`${hostName}#${incarnation}`);
  }

  /** A promise that never settles: what a dead process gets for everything. */
  never<T>(): Promise<T> {
    return new Promise<T>(() => {});
  }

  delay(range: DelayRange): number {
    return range.minMs + this.chance.fraction() * (range.maxMs - range.minMs);
  }

  /** Does the work as an event of its own after a delay, and settles with its outcome, unless the process dies before. */
  later<T>(delayMs: number, label: string, work: () => T | Promise<T>): Promise<T> {
    if (!this.isAlive) return this.never();
    return new Promise<T>((resolve, reject) => {
      this.engine.schedule(delayMs, label, this, () => {
        try {
          const result = work();
          // The work may have been this process's death: then nobody hears of it.
          if (!this.isAlive) return;
          if (result instanceof Promise) result.then(resolve, reject);
          else resolve(result);
        } catch (error) {
          if (this.isAlive) reject(error);
        }
      });
    });
  }

  /** Ends the process. Idempotent. */
  die(): void {
    if (!this.isAlive) return;
    this.isAlive = false;
    this.engine.onceQuiet(() => {
      for (const holding of this.holdings) holding.reclaim();
      this.holdings.clear();
    });
  }
}
