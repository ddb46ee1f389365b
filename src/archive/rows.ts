/** @module Rows of an archive volume's database as the values they stand for. */
import { sql } from "drizzle-orm";
import { type ArchiveState, diffMeta, snapshot } from "../snapshot/types.ts";
import type { VolumeDatabase } from "../volume/database.ts";
import type { StoredDiff } from "./diff-rows.ts";
import { type diffTable, volumeTable } from "./schema.ts";

/** The one row of the volume. */
export type VolumeRow = typeof volumeTable.$inferSelect;

function prepareNoteReceived(orm: VolumeDatabase["orm"]) {
  const lastReceivedMs = sql<number>`${sql.placeholder("lastReceivedMs")}`;
  return orm.update(volumeTable).set({ lastReceivedMs }).prepare();
}

/** Changes the row of the volume; what comes with every diff by a statement that is kept. */
export function setVolumeRow(database: VolumeDatabase, values: Partial<VolumeRow>): void {
  const { lastReceivedMs, ...rest } = values;
  if (lastReceivedMs === undefined || Object.keys(rest).length > 0) {
    database.orm.update(volumeTable).set(values).run();
  } else {
    database.kept(prepareNoteReceived).run({ lastReceivedMs });
  }
}

/** A diff as its row says. */
export function storedDiff(row: typeof diffTable.$inferSelect): StoredDiff {
  const meta = diffMeta({
    from: snapshot(row.fromB, row.fromE),
    to: snapshot(row.toB, row.toE),
    isMergeable: row.isMergeable,
    isCompared: row.isCompared,
    timestampS: row.timestampS,
    dataSizeBytes: row.sizeBytes,
  });
  return { fileName: row.fileName, meta, uuid: row.uuid, contentLb: row.contentLb };
}

/** The columns of a base image's state. */
export function baseColumns(base: ArchiveState | undefined) {
  return {
    baseFromB: base?.from.gidB ?? null,
    baseFromE: base?.from.gidE ?? null,
    baseToB: base?.to?.gidB ?? null,
    baseToE: base?.to?.gidE ?? null,
    baseTimestampS: base?.timestampS ?? null,
  };
}

/** The state of the base image as its columns say. */
export function baseOf(row: typeof volumeTable.$inferSelect): ArchiveState | undefined {
  const { baseFromB, baseFromE, baseToB, baseToE, baseTimestampS: timestampS } = row;
  if (baseFromB === null || baseFromE === null || timestampS === null) return undefined;
  const from = snapshot(baseFromB, baseFromE);
  return baseToB === null || baseToE === null
    ? { from, timestampS }
    : { from, to: snapshot(baseToB, baseToE), timestampS };
}
