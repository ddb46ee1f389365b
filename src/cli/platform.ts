/** @module The platform that a command works on: the host's, or one that a test brings. */
import type { Platform } from "../platform/platform.ts";
import { closePlatform, createPlatform } from "../platform/real/index.ts";
import type { Io } from "./verb.ts";

/** Runs `work` on the platform; the host's is closed afterwards. @param clusterKey what daemons are spoken to with. */
export async function withPlatform<T>(
  io: Io,
  work: (platform: Platform) => Promise<T>,
  clusterKey?: string,
): Promise<T> {
  if (io.platform !== undefined) return await work(io.platform);
  // Most commands on the host talk to nobody, and start faster without it.
  const secureNet = clusterKey === undefined ? undefined : (await import("../http/gateway.ts")).clientNet(clusterKey);
  const platform = createPlatform(secureNet === undefined ? {} : { secureNet });
  try {
    return await work(platform);
  } finally {
    await closePlatform(platform);
  }
}
