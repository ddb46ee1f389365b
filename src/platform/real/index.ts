/** @module The real Platform: kernel files and devices, sockets, the clock, the shim's memory and threads. */
import { hostname, totalmem } from "node:os";
import { WalbError } from "../../errors.ts";
import { createPoolCompute } from "../../native/compute.ts";
import { createJobPool, type JobPool } from "../../native/pool.ts";
import { createMemoryPool } from "../../native/slabs.ts";
import { alignDown, gib, mib } from "../../units.ts";
import type { Net } from "../net.ts";
import type { Platform } from "../platform.ts";
import { createClock } from "./clock.ts";
import { createCommands } from "./commands.ts";
import { createDatabases } from "./database.ts";
import { RealDisk } from "./disk.ts";
import { RealKernel } from "./kernel.ts";
import { createNet } from "./net.ts";
import { createRandom } from "./random.ts";

/** How to make the real platform. */
export interface PlatformOptions {
  /** Bound of slab memory. Default: 1/4 of RAM, at most 1 GiB, at least 160 MiB. */
  readonly memoryBudgetBytes?: number;
  /** Pool threads for I/O and CPU work. Default max(2, min(8, 2 · cores)). */
  readonly threads?: number;
  /** Makes the Net of the platform out of the plain one. */
  readonly secureNet?: (net: Net) => Net;
}

const pools = new WeakMap<Platform, JobPool>();

/** Makes the real platform; ready at once. It does not keep the process alive while no job is in flight. */
export function createPlatform(options: PlatformOptions = {}): Platform {
  const pool = createJobPool(options.threads === undefined ? {} : { threads: options.threads });
  const disk = new RealDisk(pool);
  const platform: Platform = {
    disk,
    net: options.secureNet?.(createNet()) ?? createNet(),
    clock: createClock(),
    random: createRandom(),
    memory: createMemoryPool(options.memoryBudgetBytes ?? defaultBudgetBytes()),
    compute: createPoolCompute(pool),
    databases: createDatabases(),
    kernel: new RealKernel(pool),
    commands: createCommands(disk),
    hostName: hostname(),
  };
  pools.set(platform, pool);
  return platform;
}

/** The job pool of a real platform, for ioctls. @throws WalbError `internal` for another platform. */
export function jobPoolOf(platform: Platform): JobPool {
  const pool = pools.get(platform);
  if (pool === undefined) throw new WalbError("internal", { what: "the platform has no job pool: it is not real" });
  return pool;
}

/** Waits for jobs in flight, ends the threads. The platform must not be used afterwards. */
export async function closePlatform(platform: Platform): Promise<void> {
  await jobPoolOf(platform).close();
}

/** The least default: enough for every role, also on a small host. */
export const memoryBudgetBytesMin = 160 * mib;

function defaultBudgetBytes(): number {
  return Math.max(memoryBudgetBytesMin, Math.min(gib, alignDown(Math.floor(totalmem() / 4), mib)));
}
