/**
 * @module Commands of LVM that go on when the daemon that began them is killed: one that waits for the lock of the group
 * may remove a base image long after the next daemon has looked what there is, and has taken back what was begun. Each
 * keeps a file of the data directory locked; a start waits for it.
 */
import { asWalbError, WalbError } from "../../errors.ts";
import type { Clock } from "../../platform/clock.ts";
import type { Disk, DiskFile } from "../../platform/disk.ts";

/** Name of the file in the data directory. */
export const commandLockName = "lvm.lock";

/** As long as a command has to end by itself, and some; systemd gives a start 90 s, and why it failed is to be said before. */
const waitMs = 75_000;
const lookMs = 100;

/**
 * Waits for the commands of a daemon that was killed. @param onWait called once, when there is one to wait for.
 * @throws WalbError `locked` when they do not end.
 */
export async function awaitPredecessor(
  disk: Disk,
  clock: Clock,
  lockPath: string,
  onWait: () => void = () => undefined,
): Promise<void> {
  // Nothing was ever changed; whoever only looks leaves no file behind.
  if ((await disk.info(lockPath)) === undefined) return;
  const endMs = clock.monotonicMs() + waitMs;
  for (let isFirst = true; ; isFirst = false) {
    let lock: DiskFile | undefined;
    try {
      lock = await disk.open(lockPath, { mode: "read", lock: true });
    } catch (error) {
      if (asWalbError(error).code !== "locked") throw error;
    }
    if (lock !== undefined) return lock.close();
    if (isFirst) onWait();
    if (clock.monotonicMs() >= endMs) {
      throw new WalbError("locked", {
        what: "a command of LVM does not end that was begun before this daemon was started",
        where: { file: lockPath },
        hint: `look at what holds it up: fuser -v ${lockPath}; ps -eo pid,stat,etime,args`,
      });
    }
    await clock.sleep(lookMs);
  }
}
