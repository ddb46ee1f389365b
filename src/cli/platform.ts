/** @module The platform that a command works on: the host's, or one that a test brings. */
import type { Platform } from "../platform/platform.ts";
import { closePlatform, createPlatform } from "../platform/real/index.ts";
import type { Io } from "./verb.ts";

/** Runs `work` on the platform; the host's is closed afterwards. */
export async function withPlatform<T>(io: Io, work: (platform: Platform) => Promise<T>): Promise<T> {
  if (io.platform !== undefined) return await work(io.platform);
  const platform = createPlatform();
  try {
    return await work(platform);
  } finally {
    await closePlatform(platform);
  }
}
