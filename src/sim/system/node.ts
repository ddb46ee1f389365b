/** @module A host of the simulated site with what runs on it, started again whenever it went down. */
import { WalbError } from "../../errors.ts";
import type { MemoryPool } from "../../native/memory.ts";
import type { Platform } from "../../platform/platform.ts";
import type { CrashOptions, SimHost, SimRandom, SimWorld } from "../api.ts";
import { watchedMemory } from "../memory.ts";

/** How work on a host ended. `down`: the host went down, nobody knows how far the work came. */
export type Outcome<T> =
  | { readonly kind: "done"; readonly value: T }
  | { readonly kind: "failed"; readonly error: WalbError }
  | { readonly kind: "down" }
  | { readonly kind: "late" };

/** What runs on a host. */
export interface Service {
  close(mode: "graceful" | "force"): Promise<void>;
}

const pollMs = 25;

/** Virtual time for code that belongs to no host. */
export function sleep(world: SimWorld, delayMs: number): Promise<void> {
  return new Promise((resolve) => world.after(delayMs, resolve, "fate"));
}

/** A host under supervision. */
export class Node<S extends Service> {
  /** What runs, once it is open. */
  service: S | undefined;
  /** How often the host went down without power: unsynced data may be gone since. */
  powerLossCount = 0;
  /** Pools carved out of the memory of the running process. */
  pools: MemoryPool[] = [];
  /** Starts that failed. */
  failedStartCount = 0;
  lastStartError: unknown;
  /**
   * A sync of the device failed: the system may still show data that the disk has lost, so a new process on the same
   * system would build on it. The procedure is to start the host afresh; every end is one without power then.
   */
  mustLosePower = false;
  #armedKill: boolean | undefined;
  #isSupervised = true;
  #isQuick = false;
  readonly #random: SimRandom;

  constructor(
    readonly world: SimWorld,
    readonly host: SimHost,
    private readonly open: (platform: Platform) => Promise<S>,
  ) {
    this.#random = world.random.fork(`node ${host.name}`);
    void this.#supervise();
  }

  get name(): string {
    return this.host.name;
  }

  kill(): void {
    if (this.mustLosePower) {
      this.crash();
      return;
    }
    this.#armedKill = undefined;
    this.service = undefined;
    if (this.host.isUp) this.host.kill();
  }

  crash(options: CrashOptions = {}): void {
    this.#armedKill = undefined;
    this.service = undefined;
    this.powerLossCount += 1;
    this.mustLosePower = false;
    if (this.host.isUp) this.host.crash(options);
  }

  /** Kill or power loss at the n-th change of the disk from now. */
  arm(n: number, isKill: boolean): void {
    if (!this.host.isUp) return;
    this.#armedKill = isKill;
    this.host.crashAtOperation(n, { kill: isKill });
  }

  /** Takes {@link arm} back. */
  disarm(): void {
    if (this.#armedKill === undefined) return;
    this.#armedKill = undefined;
    if (this.host.isUp) this.host.crashAtOperation(Number.MAX_SAFE_INTEGER, { kill: true });
  }

  /** From now on restarts are quick. */
  hurry(): void {
    this.#isQuick = true;
  }

  /** Ends the supervision. */
  leave(): void {
    this.#isSupervised = false;
  }

  /** Notices that the host went down by itself. Call before relying on {@link powerLossCount}. */
  look(): void {
    if (this.host.isUp) return;
    this.service = undefined;
    if (this.#armedKill === false) this.powerLossCount += 1;
    this.#armedKill = undefined;
  }

  /** Runs work with the service until it ends, the host goes down, or too much time has passed. */
  async attempt<T>(work: (service: S) => Promise<T>, limitMs = 600_000): Promise<Outcome<T>> {
    const { service, world, host } = this;
    if (service === undefined || !host.isUp) return { kind: "down" };
    const { incarnation } = host;
    let outcome: Outcome<T> | undefined;
    work(service).then(
      (value) => {
        outcome = { kind: "done", value };
      },
      (error: unknown) => {
        const known =
          error instanceof WalbError ? error : new WalbError("internal", { what: String(error), cause: error });
        outcome = { kind: "failed", error: known };
      },
    );
    const endMs = world.nowMs() + limitMs;
    let waitMs = 1;
    for (;;) {
      await sleep(world, waitMs);
      waitMs = Math.min(pollMs, waitMs * 2);
      if (host.incarnation !== incarnation || !host.isUp) {
        this.look();
        return { kind: "down" };
      }
      if (outcome !== undefined) return outcome;
      if (world.nowMs() >= endMs) return { kind: "late" };
    }
  }

  async #supervise(): Promise<void> {
    this.#start(this.host.platform);
    while (this.#isSupervised) {
      await sleep(this.world, 2 * pollMs);
      if (this.host.isUp || !this.#isSupervised) continue;
      this.look();
      const delayMs = this.#random.chance(0.1) ? this.#random.between(5_000, 60_000) : this.#random.between(10, 3_000);
      const endMs = this.world.nowMs() + delayMs;
      while (this.world.nowMs() < endMs && !this.#isQuick) await sleep(this.world, 100);
      if (this.#isSupervised) this.#start(this.host.restart());
    }
  }

  #start(platform: Platform): void {
    const { incarnation } = this.host;
    const isCurrent = (): boolean => this.host.isUp && this.host.incarnation === incarnation;
    this.pools = [];
    this.open(watchedMemory(platform, this.pools)).then(
      (service) => {
        if (isCurrent()) this.service = service;
      },
      (error: unknown) => {
        if (!isCurrent()) return;
        this.failedStartCount += 1;
        this.lastStartError = error;
        this.world.note(`${this.name} cannot start: ${String(error)}`);
        // As a supervisor sees it: the process exits with an error, and is started again.
        this.kill();
      },
    );
  }

  /** Memory that the running process has leased. */
  get leasedBytes(): number {
    if (!this.host.isUp) return 0;
    return this.pools.reduce((sum, pool) => sum + pool.leasedBytes, this.host.platform.memory.leasedBytes);
  }
}
