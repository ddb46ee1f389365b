/**
 * @module A hash backup: the archive gets what differs from its newest image, and keeps all points it has. The log of that
 * time makes the differences consistent afterwards.
 *
 * Order: archive accepts and names its newest snapshot → log reset to the gid behind it → log shipping begins →
 * comparison → explicit snapshot → archive commits → Target.
 */
import { lbBytes } from "../units.ts";
import { hashSeed, runHashSync } from "../wire/hash-sync.ts";
import { ImageComparer } from "../wire/source/compare.ts";
import { type BackupParts, type BackupResult, backupKinds, runBackup } from "./backup.ts";
import type { StorageVolume } from "./volume.ts";

/** Runs the backup; the volume is in HashSync meanwhile, and a Target afterwards. */
export function hashBackup(volume: StorageVolume, parts: BackupParts): Promise<BackupResult> {
  return runBackup(volume, parts, backupKinds.hash, async ({ connect, info, file, request }) => {
    const totalBytes = info.sizeLb * lbBytes;
    // Its memory may have to be waited for: before the archive is asked, which has no time to wait.
    const comparer = await ImageComparer.open({
      file,
      pool: parts.pool,
      compute: parts.compute,
      clock: volume.platform.clock,
      sizeLb: info.sizeLb,
      bulkLb: parts.bulkLb,
      compress: volume.settings.compress,
      seed: hashSeed(request.timestampS),
      rateBytesPerS: parts.rateBytesPerS,
      signal: parts.signal,
      progress: (doneLb) => parts.progress({ doneBytes: doneLb * lbBytes, totalBytes, step: "comparing the volume" }),
    });
    let gidB = 0n;
    let gid = 0n;
    try {
      const answer = await runHashSync(await connect(), request, {
        async accepted(latest) {
          parts.accepted();
          gidB = latest.gidE + 1n;
          await volume.resetLog(gidB);
          return volume.store.logUuid!;
        },
        comparer() {
          parts.follow();
          return comparer;
        },
        async snapshot() {
          parts.progress({ doneBytes: totalBytes, totalBytes, step: "taking the snapshot that ends the comparison" });
          const point = await volume.takeSnapshot(false);
          gid = point.gid;
          parts.kick();
          return { gidB, gidE: gid };
        },
      });
      return { answer, gid };
    } finally {
      await comparer.close();
    }
  });
}
