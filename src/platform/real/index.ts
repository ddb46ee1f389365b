/** @module The real Platform: kernel files and devices, sockets, the clock, the shim's memory and threads. */
import type { Platform } from "../platform.ts";

/** How to make the real platform. */
export interface PlatformOptions {
  /** Bound of slab memory. Default: 1/4 of RAM, at most 1 GiB, at least 128 MiB. */
  readonly memoryBudgetBytes?: number;
  /** Pool threads for I/O and CPU work. Default max(2, min(8, 2 · cores)). */
  readonly threads?: number;
}

/** Makes the real platform; ready at once. It does not keep the process alive while no job is in flight. */
export function createPlatform(options: PlatformOptions = {}): Platform {
  throw new Error(`being written ${options.threads}`);
}

/** Waits for jobs in flight, ends the threads. The platform must not be used afterwards. */
export async function closePlatform(platform: Platform): Promise<void> {
  throw new Error(`being written ${platform.hostName}`);
}
