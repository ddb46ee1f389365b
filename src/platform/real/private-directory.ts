/** @module Directories that only this user can enter, for unix sockets within a process's reach; those of dead processes go. */
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { WalbError } from "../../errors.ts";

/** Followed by the process id, so that what a killed process left behind can be told. */
const directoryPrefix = "walb-http-";

/** Makes a directory of mode 0700 in the first place that allows it. @throws WalbError `io` when none does. */
export function makePrivateDirectory(): string {
  const places = [tmpdir(), process.env.XDG_RUNTIME_DIR ?? "/run", "/dev/shm", "/var/tmp"];
  let cause: unknown;
  for (const place of places) {
    try {
      removeStaleDirectories(place);
      return mkdtempSync(join(place, `${directoryPrefix}${process.pid}-`));
    } catch (error) {
      cause ??= error;
    }
  }
  throw new WalbError("io", {
    what: `cannot make a private directory for a socket in any of ${places.join(", ")}`,
    hint: "set TMPDIR to a directory that this user may write to",
    cause,
  });
}

/** Removes it when the process ends in an orderly way. */
export function removeAtExit(directory: string): void {
  process.once("exit", () => rmSync(directory, { recursive: true, force: true }));
}

/** Removes the directories of processes that are gone. Those of other users fail, and are theirs to remove. */
function removeStaleDirectories(place: string): void {
  for (const name of readdirSync(place)) {
    const pid = new RegExp(`^${directoryPrefix}([0-9]+)-`).exec(name)?.[1];
    if (pid === undefined || isAlive(Number(pid))) continue;
    try {
      rmSync(join(place, name), { recursive: true, force: true });
    } catch {
      // Another user's.
    }
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    // Only "no such process" says that it is gone.
    return !(error instanceof Error && "code" in error && error.code === "ESRCH");
  }
}
