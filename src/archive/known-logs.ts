/**
 * @module Logs that diffs of a volume came from, here or at the archives that replicate to it, whether the diffs are still
 * there or not. They tell whether another archive is behind, ahead, or has gone another way.
 */
import type { VolumeDatabase } from "../volume/database.ts";
import { knownLogTable } from "./schema.ts";

/** Their rows. */
export class KnownLogs {
  readonly #database: VolumeDatabase;
  #uuids: Set<string>;

  constructor(database: VolumeDatabase) {
    this.#database = database;
    this.#uuids = this.#read();
  }

  get all(): string[] {
    return [...this.#uuids];
  }

  has(uuid: string): boolean {
    return this.#uuids.has(uuid);
  }

  /** Within a transaction: {@link refresh} comes behind it. */
  insert(uuid: string): void {
    if (this.#uuids.has(uuid)) return;
    this.#database.orm.insert(knownLogTable).values({ uuid }).onConflictDoNothing().run();
  }

  /** Learns what another archive knows. */
  learn(uuids: readonly string[]): void {
    if (uuids.every((uuid) => this.#uuids.has(uuid))) return;
    this.#database.transaction(() => {
      for (const uuid of uuids) this.insert(uuid);
    });
    this.refresh();
  }

  /** Within a transaction: {@link refresh} comes behind it. */
  clear(): void {
    this.#database.orm.delete(knownLogTable).run();
  }

  /** What the rows say, after a transaction. */
  refresh(): void {
    this.#uuids = this.#read();
  }

  #read(): Set<string> {
    return new Set(
      this.#database.orm
        .select()
        .from(knownLogTable)
        .all()
        .map(({ uuid }) => uuid),
    );
  }
}
