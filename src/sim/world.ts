/** @module The simulated world: virtual time, hosts, the network. */
import { WalbError } from "../errors.ts";
import type { RunLimits, SimHost, SimHostOptions, SimRandom, SimWorld, SimWorldOptions } from "./api.ts";
import { Engine } from "./engine.ts";
import { Host } from "./host.ts";
import { Network } from "./net/network.ts";

/**
 * Makes a world in which everything follows from the seed.
 * @example
 * const world = createSimWorld(7);
 * const a = world.host("a");
 * await world.complete(() => a.platform.disk.makeDirectory("/data"));
 */
export function createSimWorld(seed: number, options: SimWorldOptions = {}): SimWorld {
  return new World(seed, options);
}

class World implements SimWorld {
  readonly network: Network;
  readonly random: SimRandom;
  private readonly engine: Engine;
  private readonly hosts = new Map<string, Host>();

  constructor(
    readonly seed: number,
    options: SimWorldOptions,
  ) {
    this.engine = new Engine(seed, options.onTrace);
    this.network = new Network(this.engine);
    this.random = this.engine.random.fork("test");
  }

  get eventCount(): number {
    return this.engine.eventCount;
  }

  get traceHash(): number {
    return this.engine.traceHash;
  }

  nowMs(): number {
    return this.engine.nowUs / 1000;
  }

  host(name: string, options: SimHostOptions = {}): SimHost {
    if (this.hosts.has(name)) throw new WalbError("already-exists", { what: `there is a host ${name} already` });
    const host = new Host(name, this.engine, this.network, options);
    this.hosts.set(name, host);
    return host;
  }

  run(forMs: number, limits: RunLimits = {}): Promise<void> {
    return this.engine.runFor(forMs, limits);
  }

  runUntil(predicate: () => boolean, limits: RunLimits = {}): Promise<void> {
    return this.engine.runUntil(predicate, limits);
  }

  async complete<T>(work: Promise<T> | (() => Promise<T>), limits: RunLimits = {}): Promise<T> {
    let outcome: { readonly value: T } | { readonly error: unknown } | undefined;
    const follow = (promise: Promise<T>) => {
      promise.then(
        (value) => {
          outcome = { value };
        },
        (error: unknown) => {
          outcome = { error };
        },
      );
    };
    if (typeof work === "function") this.engine.schedule(0, "test step", undefined, () => follow(work()));
    else follow(work);
    await this.engine.runUntil(() => outcome !== undefined, limits);
    if (outcome === undefined) throw new WalbError("internal", { what: "the work has no outcome" });
    if ("error" in outcome) throw outcome.error;
    return outcome.value;
  }

  after(delayMs: number, callback: () => void, label = "test"): void {
    this.engine.schedule(delayMs, label, undefined, callback);
  }

  recentTrace(): string[] {
    return this.engine.recentTrace();
  }

  note(line: string): void {
    this.engine.note(line);
  }

  close(): void {
    for (const host of this.hosts.values()) host.kill();
    this.engine.settleQuiet();
  }
}
