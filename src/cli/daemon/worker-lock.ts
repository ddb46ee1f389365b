/** @module The lock that lets one worker run for each fleet file. */
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, realpathSync } from "node:fs";
import { tmpdir, userInfo } from "node:os";
import { dirname, resolve } from "node:path";
import { asWalbError, WalbError } from "../../errors.ts";
import type { Platform } from "../../platform/platform.ts";
import type { Io } from "../verb.ts";

/** Who runs the worker. */
interface User {
  readonly uid: number;
  readonly homedir: string;
}

/**
 * Where the lock of a fleet file is. No environment counts: cron, systemd and a shell must meet at the same file. It stays
 * when the worker ends, as one that is removed could be held by two.
 */
export function workerLockFile(fleetFile: string | undefined, { uid, homedir }: User): string {
  const directory = uid === 0 ? "/run/walb" : `${homedir}/.local/state/walb`;
  return `${directory}/worker-${keyOf(fleetFile)}.lock`;
}

/** @throws WalbError `locked`. */
export async function takeWorkerLock(
  platform: Platform,
  path: string | undefined,
  fleetFile: string | undefined,
  io: Io,
): Promise<{ close(): Promise<void> }> {
  const file = path === undefined ? usableDefault(fleetFile) : resolve(io.cwd, path);
  mkdirSync(dirname(file), { recursive: true });
  try {
    return await platform.disk.open(file, { mode: "createOrOpen", lock: true });
  } catch (cause) {
    const error = asWalbError(cause);
    if (error.code !== "locked") throw error;
    throw new WalbError("locked", {
      what: "another worker is at work for this fleet",
      where: { file },
      hint: "let it go on, or stop it first",
    });
  }
}

/** A user without a home, or a host without /run, has the directory for temporary files. */
function usableDefault(fleetFile: string | undefined): string {
  const user = userInfo();
  const file = workerLockFile(fleetFile, user);
  try {
    mkdirSync(dirname(file), { recursive: true });
    return file;
  } catch {
    return `${tmpdir()}/walb-worker-${user.uid}-${keyOf(fleetFile)}.lock`;
  }
}

/** The same for a file by whatever name: one that links lead to is one fleet. */
function keyOf(fleetFile: string | undefined): string {
  const isThere = fleetFile !== undefined && existsSync(fleetFile);
  return createHash("sha256")
    .update(isThere ? realpathSync(fleetFile) : (fleetFile ?? "default"))
    .digest("hex")
    .slice(0, 12);
}
