/**
 * @module A full backup: the archive gets a copy of the whole volume while it is written to; the log of that time makes
 * the copy consistent afterwards.
 *
 * Order: archive accepts → log reset → log shipping begins → copy → explicit snapshot → archive commits → Target.
 */
import { lbBytes } from "../units.ts";
import { runFullSync } from "../wire/full-sync.ts";
import { scanBulks } from "../wire/source/bulks.ts";
import { type BackupParts, type BackupResult, backupKinds, runBackup } from "./backup.ts";
import type { StorageVolume } from "./volume.ts";

/** Runs the backup; the volume is in FullSync meanwhile, and a Target afterwards. */
export function fullBackup(volume: StorageVolume, parts: BackupParts): Promise<BackupResult> {
  return runBackup(volume, parts, backupKinds.full, async ({ connect, info, file, request }) => {
    const totalBytes = info.sizeLb * lbBytes;
    let gid = 0n;
    const answer = await runFullSync(await connect(), request, {
      async accepted() {
        parts.accepted();
        await volume.resetLog(0n);
        return volume.store.logUuid!;
      },
      bulks() {
        parts.follow();
        return scanBulks({
          file,
          pool: parts.pool,
          clock: volume.platform.clock,
          sizeLb: info.sizeLb,
          bulkLb: parts.bulkLb,
          compress: volume.settings.compress,
          rateBytesPerS: parts.rateBytesPerS,
          signal: parts.signal,
        });
      },
      async snapshot() {
        parts.progress({ doneBytes: totalBytes, totalBytes, step: "taking the snapshot that ends the copy" });
        const point = await volume.takeSnapshot(false);
        gid = point.gid;
        parts.kick();
        return { gidB: 0n, gidE: gid };
      },
      progress: (doneLb) => parts.progress({ doneBytes: doneLb * lbBytes, totalBytes, step: "copying the volume" }),
    });
    return { answer, gid };
  });
}
