/** @module Waits until a snapshot has arrived at the archive and can be restored, and says meanwhile what holds it up. */
import { WalbError } from "../errors.ts";
import { type ClientFlagValues, callOptions, remark } from "./common.ts";
import type { ArchiveClient } from "./servers.ts";
import { collectStatus } from "./status/collect.ts";
import { formatDuration } from "./text/time.ts";
import type { Io } from "./verb.ts";

const pollMs = 500;
/** How often the whole path is asked what is wrong. */
const lookMs = 5_000;
/** Something is said at least so often. */
const lineMs = 60_000;
/** How late a snapshot is does not matter here, only why. */
const anyAge = { warningMs: Number.MAX_SAFE_INTEGER, criticalMs: Number.MAX_SAFE_INTEGER };

/** @throws WalbError `timed-out` after --timeout, `cancelled`. */
export async function waitRestorable(
  archive: ArchiveClient,
  volume: string,
  gid: bigint,
  flags: ClientFlagValues,
  io: Io,
): Promise<void> {
  const startMs = performance.now();
  const untilMs = flags.timeout === undefined ? Number.POSITIVE_INFINITY : startMs + flags.timeout;
  let saidMs = Number.NEGATIVE_INFINITY;
  let lookedMs = Number.NEGATIVE_INFINITY;
  let causes: readonly string[] = [];
  while (true) {
    const { volumes } = await archive.call("status", { volume }, callOptions(flags, io));
    const newest = volumes[0]?.newestPoint;
    if (newest !== undefined && newest.gid >= gid) return;
    const nowMs = performance.now();
    if (nowMs >= untilMs) {
      throw new WalbError("timed-out", {
        what: `snapshot ${gid} is not restorable at ${archive.server.name} yet; it is still on its way`,
        where: { volume },
        hint: `see where it is with: walb status ${volume}`,
      });
    }
    if (io.signal.aborted) throw new WalbError("cancelled", { what: "interrupted" });
    if (nowMs - saidMs >= lineMs) {
      const reached = newest === undefined ? "which has no restorable point" : `which has ${newest.gid}`;
      const since = saidMs < startMs ? "" : `, for ${formatDuration(nowMs - startMs)} now`;
      remark(flags, io, `waiting for snapshot ${gid} of ${volume} at ${archive.server.name}, ${reached}${since}`);
      for (const cause of causes) remark(flags, io, `  ${cause}`);
      saidMs = nowMs;
    }
    if (!flags.quiet && nowMs - lookedMs >= lookMs) {
      lookedMs = nowMs;
      const found = await causesOf(volume, flags, io);
      for (const cause of found) if (!causes.includes(cause)) remark(flags, io, `  ${cause}`);
      causes = found;
    }
    await Bun.sleep(pollMs);
  }
}

/** What is wrong along the path; nothing when the path cannot be asked, which must not end the wait. */
async function causesOf(volume: string, flags: ClientFlagValues, io: Io): Promise<readonly string[]> {
  try {
    const { rows } = await collectStatus({ ...flags, server: undefined }, io, volume, anyAge);
    return rows.flatMap(({ reasons, warnings }) => [...reasons, ...warnings]);
  } catch (error) {
    if (error instanceof WalbError) return [error.message];
    throw error;
  }
}
