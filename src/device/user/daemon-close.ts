/** @module Closing all volumes of a device daemon when it stops. */
import { asWalbError, type WalbError } from "../../errors.ts";
import type { Clock } from "../../platform/clock.ts";
import type { Changes } from "./daemon-changes.ts";
import type { LogClaims } from "./daemon-claims.ts";
import type { Volume } from "./daemon-report.ts";
import { inParallel, within } from "./parallel.ts";

/** Volumes that are closed at a time. */
const closingAtOnce = 4;

/** Checkpoints and closes them, behind the changes under way. Those that hang are given up after `limitMs`, and named. */
export async function closeVolumes(
  clock: Clock,
  volumes: readonly Volume[],
  changes: Changes,
  claims: LogClaims,
  limitMs: number,
): Promise<{ readonly failures: readonly WalbError[]; readonly hanging: readonly string[] }> {
  const failures: WalbError[] = [];
  const open = new Set(volumes.map(({ name }) => name));
  const closeOne = async (volume: Volume): Promise<void> => {
    await changes.ended(volume.name);
    volume.unwatch();
    try {
      await volume.engine?.close();
    } catch (error) {
      failures.push(asWalbError(error, { volume: volume.name, step: "stop" }));
    }
    await claims.release(volume.name);
    open.delete(volume.name);
  };
  const closeAll = async (): Promise<void> => {
    const closing: Promise<void>[] = [];
    await inParallel(closingAtOnce, volumes, async (volume) => {
      const one = closeOne(volume);
      closing.push(one);
      // One that hangs keeps no others waiting all the time there is.
      await within(clock, one, limitMs / 8);
    });
    await Promise.all(closing);
    await changes.allEnded();
  };
  await within(clock, closeAll(), limitMs);
  return { failures, hanging: [...open] };
}
