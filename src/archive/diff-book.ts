/**
 * @module The diffs a volume has, those it has lost, and the logs they came from. They change together: in one
 * transaction, and only then in memory.
 */
import type { VolumeDatabase } from "../volume/database.ts";
import { DiffRows, type StoredDiff } from "./diff-rows.ts";
import { KnownLogs } from "./known-logs.ts";
import { type Loss, Losses } from "./losses.ts";

/** What becomes of them. */
export interface DiffChange {
  readonly gone?: readonly StoredDiff[];
  readonly added?: readonly StoredDiff[];
  readonly lost?: Loss;
  /** Files whose loss does not matter any more. */
  readonly mended?: readonly string[];
}

/** Their rows. */
export class DiffBook {
  readonly diffs: DiffRows;
  readonly losses: Losses;
  readonly knownLogs: KnownLogs;
  readonly #database: VolumeDatabase;

  constructor(database: VolumeDatabase) {
    this.#database = database;
    this.diffs = new DiffRows(database);
    this.losses = new Losses(database);
    this.knownLogs = new KnownLogs(database);
  }

  /** @param also what else belongs into the transaction. @param isSynced false: a power loss may take it. */
  change({ gone = [], added = [], lost, mended = [] }: DiffChange, also: () => void, isSynced = true): void {
    const { transaction, unsyncedTransaction } = this.#database;
    (isSynced ? transaction : unsyncedTransaction)(() => {
      this.diffs.delete(gone);
      this.losses.delete(mended);
      for (const diff of added) this.insert(diff);
      if (lost !== undefined) this.losses.insert(lost);
      also();
    });
    this.diffs.forget(gone);
    this.losses.forget(mended);
    for (const diff of added) this.put(diff);
    if (lost !== undefined) this.losses.put(lost);
  }

  /** Within a transaction: {@link put} comes behind it. */
  insert(diff: StoredDiff): void {
    this.knownLogs.insert(diff.uuid);
    this.diffs.insert(diff);
  }

  put(diff: StoredDiff): void {
    this.diffs.put(diff);
    if (!this.knownLogs.has(diff.uuid)) this.knownLogs.refresh();
  }

  /** The rows of all are gone. */
  forgetAll(): void {
    this.diffs.forgetAll();
    this.losses.forgetAll();
    this.knownLogs.refresh();
  }
}
