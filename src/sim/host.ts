/** @module A simulated host: storage that survives, and one process after the other. */
import { WalbError } from "../errors.ts";
import type { Platform } from "../platform/platform.ts";
import { mib } from "../units.ts";
import type { CrashOptions, SimHost, SimHostOptions } from "./api.ts";
import { createSimClock } from "./clock.ts";
import { createSimCompute } from "./compute.ts";
import { createProcessDatabases } from "./disk/databases.ts";
import { SimDisk } from "./disk/disk.ts";
import { Storage } from "./disk/storage.ts";
import type { Engine } from "./engine.ts";
import { SimMemoryPool } from "./memory.ts";
import type { Network } from "./net/network.ts";
import { SimProcess } from "./process.ts";
import { createSimRandom } from "./random.ts";

const defaultWallClockMs = Date.UTC(2026, 0, 1);

export class Host implements SimHost {
  readonly storage: Storage;
  incarnation = 0;
  private process: SimProcess | undefined;
  private current: Platform | undefined;
  private wallClockMs: number;
  private crashAt: { readonly mutation: number; readonly options: CrashOptions & { kill?: boolean } } | undefined;

  constructor(
    readonly name: string,
    private readonly engine: Engine,
    private readonly network: Network,
    private readonly options: SimHostOptions,
  ) {
    this.wallClockMs = options.wallClockMs ?? defaultWallClockMs;
    this.storage = new Storage(options.disk);
    this.storage.beforeOperation = (operation) => {
      if (this.crashAt === undefined || !operation.mutates || operation.mutation < this.crashAt.mutation) return;
      const { options } = this.crashAt;
      if (options.kill === true) this.kill();
      else this.crash(options);
    };
    network.addHost(name, options.addresses ?? []);
    this.restart();
  }

  get platform(): Platform {
    if (this.current === undefined) {
      throw new WalbError("state", {
        what: "the host is down",
        where: { host: this.name },
        hint: "restart() it first",
      });
    }
    return this.current;
  }

  get isUp(): boolean {
    return this.process !== undefined;
  }

  kill(): void {
    const process = this.end("kill", false);
    if (process !== undefined) this.storage.kill(process, this.chance(undefined));
  }

  crash(options: CrashOptions = {}): void {
    const process = this.end("crash", options.silent ?? false);
    if (process !== undefined) this.storage.crash(process, this.chance(options.seed), options.keep ?? "random");
  }

  restart(): Platform {
    if (this.process !== undefined) {
      throw new WalbError("state", {
        what: "the host is up",
        where: { host: this.name },
        hint: "crash() or kill() it first",
      });
    }
    this.incarnation++;
    this.engine.note(`${this.name} start ${this.incarnation}`);
    this.network.hostRestarted(this.name);
    const process = new SimProcess(this.engine, this.name, this.incarnation);
    this.process = process;
    const clock = createSimClock(process, () => this.wallClockMs);
    const nowMs = () => clock.nowMs();
    this.current = {
      hostName: this.name,
      clock,
      disk: new SimDisk(process, this.storage, nowMs),
      net: this.network.netOf(process),
      random: createSimRandom(this.engine.seed, `${this.name}#${this.incarnation} code`),
      memory: new SimMemoryPool(process, this.options.memoryBytes ?? 64 * mib),
      compute: createSimCompute(process, this.options.computeDelay ?? { minMs: 0.005, maxMs: 0.1 }),
      databases: createProcessDatabases(process, this.storage, nowMs),
    };
    return this.current;
  }

  crashAtOperation(n: number, options: CrashOptions & { readonly kill?: boolean } = {}): void {
    this.crashAt = { mutation: this.storage.mutationCount + n, options };
  }

  jumpWallClock(deltaMs: number): void {
    this.wallClockMs += deltaMs;
  }

  private end(how: string, isSilent: boolean): SimProcess | undefined {
    const { process } = this;
    if (process === undefined) return undefined;
    this.engine.note(`${this.name} ${how} ${this.incarnation}`);
    this.process = undefined;
    this.current = undefined;
    this.crashAt = undefined;
    process.die();
    this.network.processDied(process, isSilent);
    return process;
  }

  private chance(seed: number | undefined) {
    return createSimRandom(seed ?? this.engine.random.u32(), `${this.name} crash`);
  }
}
