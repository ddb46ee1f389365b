/** @module When each diff of a volume was last read to its end and was good. */
import { inArray } from "drizzle-orm";
import type { VolumeDatabase } from "../volume/database.ts";
import { verifiedTable } from "./schema.ts";

/** SQLite takes so many variables in one statement, with room to spare. */
const namesPerStatement = 500;

/** Their rows. */
export class Verifications {
  readonly #database: VolumeDatabase;

  constructor(database: VolumeDatabase) {
    this.#database = database;
  }

  /** Time of the last good reading, by file name. */
  get all(): Map<string, number> {
    const rows = this.#database.orm.select().from(verifiedTable).all();
    return new Map(rows.map(({ fileName, atMs }) => [fileName, atMs]));
  }

  put(fileNames: readonly string[], atMs: number): void {
    this.#database.transaction(() => {
      for (const fileName of fileNames) {
        this.#database.orm
          .insert(verifiedTable)
          .values({ fileName, atMs })
          .onConflictDoUpdate({ target: verifiedTable.fileName, set: { atMs } })
          .run();
      }
    });
  }

  delete(fileNames: readonly string[]): void {
    this.#database.transaction(() => {
      for (let at = 0; at < fileNames.length; at += namesPerStatement) {
        const names = fileNames.slice(at, at + namesPerStatement);
        this.#database.orm.delete(verifiedTable).where(inArray(verifiedTable.fileName, names)).run();
      }
    });
  }
}
