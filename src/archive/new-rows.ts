/** @module The rows of a volume that is new, or whose database is lost: what its manifest says, without diffs. */
import type { VolumeDatabase } from "../volume/database.ts";
import type { Manifest } from "./manifest.ts";
import { baseColumns } from "./rows.ts";
import {
  backupTables,
  coldTable,
  fullCopyTable,
  knownLogTable,
  labelTable,
  partialTable,
  resyncTable,
  retiredLogTable,
  volumeTable,
} from "./schema.ts";

/** Writes them in one transaction, in the place of all there are. */
export function insertManifest(database: VolumeDatabase, manifest: Manifest): void {
  database.transaction(() => {
    const { orm } = database;
    for (const table of [volumeTable, ...backupTables, partialTable, fullCopyTable, resyncTable]) {
      orm.delete(table).run();
    }
    orm
      .insert(volumeTable)
      .values({
        id: 1,
        state: manifest.state,
        sizeLb: manifest.sizeLb,
        logUuid: manifest.logUuid ?? null,
        archiveUuid: manifest.archiveUuid ?? null,
        ...baseColumns(manifest.base),
        lastSyncMs: manifest.lastSyncMs ?? null,
        isResetting: false,
      })
      .run();
    for (const label of manifest.labels) orm.insert(labelTable).values(label).run();
    for (const cold of manifest.colds) orm.insert(coldTable).values(cold).run();
    for (const uuid of manifest.retiredUuids ?? []) orm.insert(retiredLogTable).values({ uuid }).run();
    for (const uuid of manifest.knownUuids ?? []) orm.insert(knownLogTable).values({ uuid }).run();
    const { resyncFile: fileName } = manifest;
    if (fileName !== undefined) orm.insert(resyncTable).values({ id: 1, fileName }).run();
  });
}
