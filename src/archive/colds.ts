/** @module The points of a volume that are kept as images: one row each, made behind the image, gone before it. */
import { eq } from "drizzle-orm";
import type { VolumeDatabase } from "../volume/database.ts";
import { coldTable } from "./schema.ts";

/** A point kept as an image. */
export interface Cold {
  readonly gid: bigint;
  readonly timestampS: number;
}

/** Their rows. */
export class Colds {
  readonly #database: VolumeDatabase;
  #all: readonly Cold[];

  constructor(database: VolumeDatabase) {
    this.#database = database;
    this.#all = database.orm.select().from(coldTable).orderBy(coldTable.gid).all();
  }

  /** By gid, ascending. */
  get all(): readonly Cold[] {
    return this.#all;
  }

  find(gid: bigint): Cold | undefined {
    return this.#all.find((cold) => cold.gid === gid);
  }

  put(cold: Cold): void {
    this.#database.orm
      .insert(coldTable)
      .values(cold)
      .onConflictDoUpdate({ target: coldTable.gid, set: { timestampS: cold.timestampS } })
      .run();
    this.#all = [...this.#all.filter(({ gid }) => gid !== cold.gid), cold].sort((a, b) => (a.gid < b.gid ? -1 : 1));
  }

  delete(gid: bigint): void {
    this.#database.orm.delete(coldTable).where(eq(coldTable.gid, gid)).run();
    this.#all = this.#all.filter((cold) => cold.gid !== gid);
  }

  /** The volume was reset: the rows are gone. */
  forget(): void {
    this.#all = [];
  }
}
