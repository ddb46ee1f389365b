/** @module Where a restore writes to: checked, opened, and put in place when it is complete. */
import { basename, dirname, resolve } from "node:path";
import { WalbError } from "../errors.ts";
import type { Disk, DiskFile } from "../platform/disk.ts";
import { lbBytes } from "../units.ts";

/** Behind the name of a file that is being restored; removed when the restore fails. */
const partialSuffix = ".walb-partial";

/** A checked target. */
export type RestoreTarget =
  | { readonly kind: "file"; readonly path: string; readonly partialPath: string }
  | { readonly kind: "device"; readonly path: string };

/** What a target is checked against. */
export interface TargetRules {
  readonly dataDir: string;
  readonly sizeBytes: number;
  readonly overwrite: boolean;
}

/**
 * Checks a target without changing anything. Symbolic links are followed: the answer names what they lead to.
 * @throws WalbError `already-exists` without `overwrite`, `out-of-range` for a device that is too small, `bad-parameter`
 * for a path among the backups, by whatever name, or of another kind, `not-found` for a missing directory, `locked` for
 * what another process has in use, as a running device its stores.
 */
export async function checkTarget(disk: Disk, to: string, rules: TargetRules): Promise<RestoreTarget> {
  const path = await disk.realPath(resolve("/", to));
  const info = await disk.info(path);
  await requireNoBackup(disk, path, rules.dataDir);
  if (info?.backingFile !== undefined) {
    await requireNoBackup(disk, await disk.realPath(info.backingFile), rules.dataDir);
  }
  if (info === undefined || info.kind === "file") {
    if (info !== undefined && !rules.overwrite) throw alreadyThere(path);
    if (info !== undefined) await requireUnused(disk, path);
    const parent = await disk.info(dirname(path));
    if (parent?.kind !== "directory") {
      throw new WalbError("not-found", {
        what: `the directory ${dirname(path)} is not there`,
        where: { file: path, field: "to" },
        hint: `make it first: mkdir -p ${dirname(path)}`,
      });
    }
    return { kind: "file", path, partialPath: `${dirname(path)}/${basename(path)}${partialSuffix}` };
  }
  if (info.kind !== "block") {
    throw new WalbError("bad-parameter", {
      what: `a restore writes to a file or a block device, not to ${info.kind === "directory" ? "a directory" : "this"}`,
      where: { file: path, field: "to" },
      ...(info.kind === "directory" ? { hint: `name the file: --to ${path}/volume.img` } : {}),
    });
  }
  if (info.sizeBytes < rules.sizeBytes) {
    throw new WalbError("out-of-range", {
      what: `the device has ${info.sizeBytes} bytes, the volume ${rules.sizeBytes}`,
      where: { file: path, field: "to" },
      hint: "choose a device that is at least as large as the volume",
    });
  }
  if (!rules.overwrite) throw alreadyThere(path, "all that is on the device would be lost");
  await requireUnused(disk, path);
  return { kind: "device", path };
}

/**
 * Refuses a path that is, or is below, the data directory or a volume's directory, and what has one of their files under
 * another name. Compared by identity too: directories can be mounted twice.
 * @param path without links.
 */
async function requireNoBackup(disk: Disk, path: string, dataDir: string): Promise<void> {
  const refusal = (): WalbError =>
    new WalbError("bad-parameter", {
      what: "a restore into the archive's own data directory could damage the backups",
      where: { file: path, field: "to" },
      hint: "restore to another directory, for example /restore",
    });
  const directories = [dataDir, ...(await disk.list(dataDir)).map((name) => `${dataDir}/${name}`)];
  const kept: string[] = [];
  const names = new Set<string>();
  for (const directory of directories) {
    const info = await disk.info(directory);
    if (info?.kind !== "directory") continue;
    kept.push(directory);
    names.add(await disk.realPath(directory));
    if (info.id !== undefined) names.add(info.id);
  }
  for (let at = path; ; at = dirname(at)) {
    const id = (await disk.info(at))?.id;
    if (names.has(at) || (id !== undefined && names.has(id))) throw refusal();
    if (at === dirname(at)) break;
  }
  const id = (await disk.info(path))?.id;
  if (id === undefined) return;
  for (const directory of kept) {
    for (const name of await disk.list(directory)) {
      if ((await disk.info(`${directory}/${name}`))?.id === id) throw refusal();
    }
  }
}

/** Refuses what another process has locked. @throws WalbError `locked`. */
async function requireUnused(disk: Disk, path: string): Promise<void> {
  await (await disk.open(path, { mode: "read", lock: true })).close();
}

/** Opens a device for a restore, exclusively; without direct I/O where its blocks are larger than those of diffs. */
export async function openDevice(disk: Disk, path: string): Promise<DiskFile> {
  const direct = await disk.open(path, { mode: "write", direct: true, lock: true });
  if (lbBytes % direct.alignmentBytes === 0) return direct;
  await direct.close();
  return disk.open(path, { mode: "write", lock: true });
}

/** The refusal of a target that has something already. */
export function alreadyThere(path: string, what = "there is a file already"): WalbError {
  return new WalbError("already-exists", {
    what,
    where: { file: path, field: "to" },
    hint: "say --overwrite to replace it",
  });
}
