/** @module The one directory everything lies in: on a real file system, removed in the end, also after a failure. */
import { mkdtempSync, realpathSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileSystemOf } from "./machine.ts";
import { killChildren } from "./processes.ts";

const inMemory = ["tmpfs", "ramfs"];

/** Where to work: WALB_BENCH_DIR, else the first usual place that is not in memory. */
function chooseParent(): string {
  const asked = process.env.WALB_BENCH_DIR;
  const places = asked === undefined ? [tmpdir(), "/var/tmp", process.cwd()] : [asked];
  const found = places.map((place) => realpathSync(place)).find((place) => !inMemory.includes(fileSystemOf(place)));
  if (found !== undefined) return found;
  throw new Error(`${places.join(", ")}: no real file system; name a directory on one, e.g. WALB_BENCH_DIR=/data`);
}

/**
 * Runs `use` in a new directory, which is also the temporary directory of all it starts. At the end, and when it is
 * interrupted, processes are ended and the directory is removed.
 */
export async function withWorkplace<T>(use: (directory: string) => Promise<T>): Promise<T> {
  const directory = mkdtempSync(join(chooseParent(), "walb-bench-"));
  process.env.TMPDIR = directory;
  const cleanUp = (): void => {
    killChildren();
    rmSync(directory, { recursive: true, force: true, maxRetries: 5 });
  };
  const interrupted = (): never => {
    cleanUp();
    process.exit(130);
  };
  process.on("SIGINT", interrupted);
  process.on("SIGTERM", interrupted);
  try {
    return await use(directory);
  } finally {
    cleanUp();
  }
}
