/** @module Asks a peer for its role over the wire protocol: is it there, and is it what it was taken for. */
import type { Logger } from "../control/logger.ts";
import { asWalbError, WalbError, withArticle } from "../errors.ts";
import { type Address, addressText } from "../platform/net.ts";
import type { Platform } from "../platform/platform.ts";
import { runGet } from "../wire/get.ts";
import { connectWire } from "../wire/handshake.ts";

const probeTimeoutMs = 3_000;

/** Probes a peer with a short deadline. @throws WalbError `protocol` when it has another role, or why it does not answer. */
export async function probeRole(
  platform: Platform,
  nodeId: string,
  address: Address,
  role: "proxy" | "archive",
): Promise<void> {
  const { stream } = await connectWire(platform.net, address, {
    clock: platform.clock,
    clientId: nodeId,
    protocol: "get",
    deadlineMs: probeTimeoutMs,
  });
  try {
    const found = String(await runGet(stream, "host-type", [], probeTimeoutMs));
    if (found === role) return;
    throw new WalbError("protocol", {
      what: `${withArticle(found)} answers where ${withArticle(role)} was expected`,
      where: { peer: addressText(address) },
      hint: `correct the ${role === "proxy" ? "addresses" : "address"} given with --${role}`,
    });
  } finally {
    stream.close();
  }
}

/**
 * Warns once when the archive does not answer at the start. It is needed only for backups, so that a wrong address would
 * not be noticed before the first one.
 */
export async function warnOfArchive(platform: Platform, nodeId: string, address: Address, log: Logger): Promise<void> {
  try {
    await probeRole(platform, nodeId, address, "archive");
  } catch (thrown) {
    const error = asWalbError(thrown, { peer: addressText(address), step: "looking for the archive" });
    log.warn("the archive does not answer, no backup can be taken until it does", {
      archive: addressText(address),
      error,
    });
  }
}
