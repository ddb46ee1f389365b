/** @module How far a full replication that is being received has come: where it goes on when it breaks off. */
import { parseState, stateTimeText } from "../snapshot/text.ts";
import { type ArchiveState, isSameState } from "../snapshot/types.ts";
import type { VolumeDatabase } from "../volume/database.ts";
import { fullCopyTable } from "./schema.ts";

/** A full replication that is not complete. */
export interface FullCopy {
  /** Of the archive that sends. */
  readonly archiveUuid: string;
  /** State of the image that is copied. */
  readonly base: ArchiveState;
  readonly sizeLb: number;
  /** Everything before it is durable. */
  readonly doneLb: number;
}

/** The row of a volume's unfinished full replication. */
export class FullCopyRow {
  readonly #database: VolumeDatabase;

  constructor(database: VolumeDatabase) {
    this.#database = database;
  }

  get(): FullCopy | undefined {
    const row = this.#database.orm.select().from(fullCopyTable).get();
    if (row === undefined) return undefined;
    const { archiveUuid, base, sizeLb, doneLb } = row;
    return { archiveUuid, base: parseState(base, 0, "base"), sizeLb, doneLb };
  }

  set({ archiveUuid, base, sizeLb, doneLb }: FullCopy): void {
    const values = { id: 1, archiveUuid, base: stateTimeText(base), sizeLb, doneLb };
    const { orm } = this.#database;
    orm.insert(fullCopyTable).values(values).onConflictDoUpdate({ target: fullCopyTable.id, set: values }).run();
  }

  clear(): void {
    this.#database.orm.delete(fullCopyTable).run();
  }
}

/**
 * Where a full replication begins: where an earlier one of the same image ended, down to a whole bulk; else at 0. The
 * time of a state says nothing about the image. Source: `docs/protocol.md`, repl-sync3, full copy.
 */
export function resumeLb(
  stored: FullCopy | undefined,
  wanted: Pick<FullCopy, "archiveUuid" | "base" | "sizeLb">,
  bulkLb: number,
): number {
  if (stored === undefined || stored.archiveUuid !== wanted.archiveUuid) return 0;
  if (!isSameState(stored.base, wanted.base) || stored.doneLb > wanted.sizeLb) return 0;
  return stored.doneLb - (stored.doneLb % bulkLb);
}
