/** @module Waits until a snapshot has arrived at the archive and can be restored. */
import { WalbError } from "../errors.ts";
import { type ClientFlagValues, callOptions } from "./common.ts";
import type { ArchiveClient } from "./servers.ts";
import type { Io } from "./verb.ts";

const pollMs = 500;

/** @throws WalbError `timed-out` after --timeout, `cancelled`. */
export async function waitRestorable(
  archive: ArchiveClient,
  volume: string,
  gid: bigint,
  flags: ClientFlagValues,
  io: Io,
): Promise<void> {
  const untilMs = flags.timeout === undefined ? Number.POSITIVE_INFINITY : io.nowMs() + flags.timeout;
  while (true) {
    const { volumes } = await archive.call("status", { volume }, callOptions(flags, io));
    const newest = volumes[0]?.newestPoint;
    if (newest !== undefined && newest.gid >= gid) return;
    if (io.nowMs() >= untilMs) {
      throw new WalbError("timed-out", {
        what: `snapshot ${gid} is not restorable at ${archive.server.name} yet; it is still on its way`,
        where: { volume },
        hint: `see where it is with: walb status ${volume}`,
      });
    }
    if (io.signal.aborted) throw new WalbError("cancelled", { what: "interrupted" });
    await Bun.sleep(pollMs);
  }
}
