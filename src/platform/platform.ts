/** @module Everything the outside world is to walb, in one value that is handed down from main or the simulator. */
import type { Compute } from "../native/codec.ts";
import type { MemoryPool } from "../native/memory.ts";
import type { Clock, Random } from "./clock.ts";
import type { Commands } from "./commands.ts";
import type { Databases } from "./database.ts";
import type { Disk } from "./disk.ts";
import type { Kernel } from "./kernel.ts";
import type { Net } from "./net.ts";

export interface Platform {
  readonly disk: Disk;
  readonly net: Net;
  readonly clock: Clock;
  readonly random: Random;
  readonly memory: MemoryPool;
  readonly compute: Compute;
  /** Per-volume metadata: `createDatabases()` of real/database.ts, `createSimDatabases()` of sim/databases.ts. */
  readonly databases: Databases;
  /** For the walb driver; absent where there is none to be found, as in the simulator. */
  readonly kernel?: Kernel;
  /** Programs of the host; a platform without them has no LVM. */
  readonly commands?: Commands;
  /** Host name, the default node id. */
  readonly hostName: string;
}
