/** @module The archives a volume is replicated to, as this process knows them: how far each is, and what is wrong. */
import { WalbError } from "../../errors.ts";
import type { Trouble } from "../../volume/trouble.ts";

/** One other archive. */
export interface ReplicaState {
  /** Address as it was asked for. */
  readonly to: string;
  /** Its node id, once it answered. */
  readonly node: string | undefined;
  readonly isRunning: boolean;
  /** What it had when it was last brought up to date, and when that was. */
  readonly gid: bigint | undefined;
  readonly atMs: number | undefined;
  readonly trouble: Trouble | undefined;
}

/** A replication that runs. */
export interface ReplicaClaim {
  /** It answered, under this node id. */
  met(node: string): void;
  reached(gid: bigint, atMs: number): void;
  failed(error: WalbError, atMs: number): void;
  end(): void;
}

const knownMax = 64;

/** The other archives of one volume. */
export class Replicas {
  readonly #states = new Map<string, ReplicaState>();

  get all(): ReplicaState[] {
    return [...this.#states.values()];
  }

  /** What is wrong with one that is being followed. */
  get trouble(): Trouble | undefined {
    return this.all.find((state) => state.isRunning && state.trouble !== undefined)?.trouble;
  }

  /** Begins a replication. @throws WalbError `busy` when one to the same address runs. */
  claim(volume: string, to: string): ReplicaClaim {
    const known = this.#states.get(to);
    if (known?.isRunning === true) {
      throw new WalbError("busy", {
        what: `the volume is being replicated to ${to} already`,
        where: { volume },
        hint: `look at it with: walb status ${volume}`,
      });
    }
    const set = (values: Partial<ReplicaState>): void => {
      const state = this.#states.get(to) ?? {
        to,
        node: undefined,
        isRunning: true,
        gid: undefined,
        atMs: undefined,
        trouble: undefined,
      };
      // Newest last, so that the oldest is forgotten.
      this.#states.delete(to);
      this.#states.set(to, { ...state, ...values });
    };
    set({ isRunning: true });
    for (const { to: other, isRunning } of this.all.slice(0, Math.max(0, this.#states.size - knownMax))) {
      if (!isRunning) this.#states.delete(other);
    }
    return {
      met: (node) => set({ node }),
      reached: (gid, atMs) => set({ gid, atMs, trouble: undefined }),
      failed: (error, atMs) => set({ trouble: { error, atMs } }),
      end: () => set({ isRunning: false }),
    };
  }
}
