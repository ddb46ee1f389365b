/**
 * @module Logs that a volume's backups came from before they came from another one. A diff of such a log does not belong
 * behind the newest point any more, whatever its gids say: whoever has it went another way since.
 */
import type { VolumeDatabase } from "../volume/database.ts";
import { retiredLogTable } from "./schema.ts";

/** Their rows. */
export class RetiredLogs {
  readonly #database: VolumeDatabase;

  constructor(database: VolumeDatabase) {
    this.#database = database;
  }

  get all(): string[] {
    return this.#database.orm
      .select()
      .from(retiredLogTable)
      .all()
      .map(({ uuid }) => uuid);
  }

  add(uuid: string): void {
    this.#database.orm.insert(retiredLogTable).values({ uuid }).onConflictDoNothing().run();
  }

  clear(): void {
    this.#database.orm.delete(retiredLogTable).run();
  }
}
