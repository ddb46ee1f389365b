/** @module The real Disk: files and block devices of this host. */
import { linkSync, lstatSync, mkdirSync, readdirSync, rmdirSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { asWalbError, WalbError } from "../../errors.ts";
import { errnoError } from "../../native/errno.ts";
import { JobFlag, Op, OpenFlag } from "../../native/layout.ts";
import type { Memory } from "../../native/memory.ts";
import type { JobRunner } from "../../native/pool.ts";
import { type Table, withTable } from "../../native/tables.ts";
import type {
  BadTransfer,
  Disk,
  DiskFile,
  FileCopyOptions,
  FileInfo,
  OpenOptions,
  RecodeOptions,
  RecodeRows,
  TakeRecoded,
} from "../disk.ts";
import { CachedFiles } from "./cached-files.ts";
import { fillClone } from "./clone.ts";
import { RealDiskFile } from "./file.ts";
import { loopBackingOf } from "./loop.ts";
import { withPaths } from "./path-table.ts";
import { attempt, isFileAt, realPathOf, statOf } from "./paths.ts";
import { recodeImages } from "./recode.ts";
import { readSmallFile, writeWhole } from "./small-files.ts";

const errnoNotFound = 2;
const errnoWouldBlock = 11;
/** Where a path starts in its table; before it is room for answers. */
const pathOffset = 64;

/** A regular file that was opened on this thread. */
const plainFile = {
  isBlockDevice: false,
  isDirect: false,
  alignmentBytes: 1,
  physicalBlockBytes: 512,
  closesAtOnce: true,
} as const;

/** The real {@link Disk} over a job pool. */
export class RealDisk implements Disk {
  readonly #runner: JobRunner;
  readonly #temporaryNames = new Set<string>();
  readonly #cached = new CachedFiles();

  constructor(runner: JobRunner) {
    this.#runner = runner;
  }

  async open(path: string, options: OpenOptions): Promise<RealDiskFile> {
    const flags = openFlags(options);
    const cached = flags === 0 ? this.#cached.open(path) : undefined;
    if (cached !== undefined) return new RealDiskFile(this.#runner, { path, ...plainFile, ...cached });
    const file = await this.#open(path, flags);
    if (options.lock !== true) return file;
    if (!file.isBlockDevice) {
      if (isFileAt(path, file.fd)) return file;
      // Its holder removed or replaced it: a lock on what nobody finds any more keeps nobody out.
      await file.close();
      return this.open(path, options);
    }
    try {
      file.guard = await this.#lockBehind(path);
      return file;
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  /** Opens a file, made when missing, with a lock that others can have as well, but nobody who wants it alone. */
  openShared(path: string): Promise<RealDiskFile> {
    return this.#open(path, OpenFlag.write | OpenFlag.create | OpenFlag.lockShared);
  }

  /**
   * A lock on a loop device says nothing of the file it shows, which may be in use by its own name or through another
   * loop device: that is locked, too.
   */
  async #lockBehind(path: string): Promise<RealDiskFile | undefined> {
    const rdev = statOf(path)?.rdev;
    const backing = rdev === undefined ? undefined : loopBackingOf(rdev);
    if (backing === undefined) return undefined;
    try {
      if (backing.isWhole) return await this.open(backing.path, { mode: "read", lock: true });
      return await this.#open(backing.path, OpenFlag.lockShared);
    } catch (error) {
      if (asWalbError(error).code === "locked")
        throw lockedError(path, `${backing.path}, which it shows,`, backing.path);
      // Deleted, or of another mount namespace: nobody can open it by name here.
      return undefined;
    }
  }

  async #open(path: string, flags: number): Promise<RealDiskFile> {
    const isLocked = (flags & (OpenFlag.lock | OpenFlag.lockShared)) !== 0;
    return await this.#withPath(path, async (table) => {
      const job = { op: Op.open, isSlow: true, flags, table: table.address };
      const { result } = await this.#runner.run({ ...job, address: table.address + pathOffset });
      if (result === -errnoWouldBlock && isLocked) throw lockedError(path);
      if (result < 0) throw errnoError("open", -result, { file: path });
      const [isBlock, isDirect, alignmentBytes = 1, physicalBlockBytes = 512, sizeBytes = 0, isLocal] = table.f64;
      if (isLocal === 1) this.#cached.learn(path);
      return new RealDiskFile(this.#runner, {
        fd: result,
        path,
        isBlockDevice: isBlock === 1,
        isDirect: isDirect === 1,
        alignmentBytes,
        physicalBlockBytes,
        sizeBytes,
        closesAtOnce: flags === 0 && isLocal === 1,
      });
    });
  }

  async info(path: string): Promise<FileInfo | undefined> {
    const stats = statOf(path);
    if (stats === undefined) return undefined;
    if (!stats.isBlockDevice()) {
      const kind = stats.isFile() ? "file" : stats.isDirectory() ? "directory" : "other";
      const id = `${stats.dev}:${stats.ino}`;
      return { kind, sizeBytes: stats.size, allocatedBytes: stats.blocks * 512, modifiedMs: stats.mtimeMs, id };
    }
    const device = await this.open(path, { mode: "read" });
    try {
      const sizeBytes = await device.size();
      const { rdev, mtimeMs: modifiedMs } = stats;
      const id = `block ${rdev}`;
      const backing = loopBackingOf(rdev);
      const shown = backing === undefined ? {} : { backingFile: backing.path };
      return { kind: "block", sizeBytes, allocatedBytes: sizeBytes, modifiedMs, id, ...shown };
    } finally {
      await device.close();
    }
  }

  async realPath(path: string): Promise<string> {
    return attempt("resolving", path, () => realPathOf(resolve("/", path)));
  }

  async list(path: string): Promise<string[]> {
    return attempt("listing", path, () => readdirSync(path).sort());
  }

  async makeDirectory(path: string): Promise<void> {
    const first = attempt("making a directory", path, () => mkdirSync(path, { recursive: true, mode: 0o755 }));
    if (first === undefined) return;
    // Every new entry is durable only when the directory above it is.
    const stop = dirname(first);
    for (let parent = dirname(path); ; parent = dirname(parent)) {
      await this.syncDirectory(parent);
      if (parent === stop || parent === dirname(parent)) return;
    }
  }

  async readSmall(path: string, maxBytes: number): Promise<Uint8Array> {
    return attempt("read", path, () => readSmallFile(path, maxBytes));
  }

  async writeSmall(path: string, bytes: Uint8Array): Promise<void> {
    const temporary = this.#takeTemporaryName(path);
    try {
      attempt("write", temporary, () => {
        writeWhole(temporary, bytes);
      });
      await this.rename(temporary, path);
      await this.syncDirectory(dirname(path));
    } catch (error) {
      // What failed is told; a temporary file that cannot be removed either is overwritten by the next try.
      await this.remove(temporary).catch(() => undefined);
      throw error;
    } finally {
      this.#temporaryNames.delete(temporary);
    }
  }

  async rename(from: string, to: string): Promise<void> {
    await withPaths([from, to], ([address = 0, extra = 0]) =>
      this.#run(`rename to ${to}`, from, { op: Op.rename, address, extra }),
    );
  }

  async link(from: string, to: string): Promise<void> {
    attempt(`link to ${from}`, to, () => linkSync(from, to));
  }

  async remove(path: string): Promise<void> {
    await this.#withPath(path, async (table) => {
      const job = { op: Op.unlink, isSlow: true, address: table.address + pathOffset };
      const { result } = await this.#runner.run(job);
      if (result < 0 && result !== -errnoNotFound) throw errnoError("remove", -result, { file: path });
    });
  }

  async removeTree(path: string): Promise<void> {
    const stats = attempt("remove", path, () => lstatSync(path, { throwIfNoEntry: false }));
    if (stats === undefined) return;
    if (!stats.isDirectory()) return await this.remove(path);
    for (const name of await this.list(path)) await this.removeTree(join(path, name));
    attempt("remove", path, () => rmdirSync(path));
  }

  async syncDirectory(path: string): Promise<void> {
    await this.#withPath(path, async (table) => {
      await this.#run("fsync", path, { op: Op.fsyncPath, address: table.address + pathOffset });
    });
  }

  async syncFileSystem(path: string): Promise<void> {
    await this.#withPath(path, async (table) => {
      const address = table.address + pathOffset;
      await this.#run("sync of the file system", path, { op: Op.fsyncPath, flags: JobFlag.sync, address });
    });
  }

  async recode(
    sources: readonly DiskFile[],
    count: number,
    fill: (rows: RecodeRows) => void,
    target: Memory,
    options: RecodeOptions,
    take: TakeRecoded,
  ): Promise<BadTransfer | undefined> {
    return await recodeImages(this.#runner, sources, count, fill, target, options, take);
  }

  async cloneFile(from: string, to: string, options: FileCopyOptions = {}): Promise<"reflink" | "copy"> {
    const source = await this.open(from, { mode: "read" });
    try {
      const target = await this.open(to, { mode: "create" });
      try {
        const how = await fillClone(source, target, options);
        await target.sync();
        await target.close();
        await this.syncDirectory(dirname(to));
        return how;
      } catch (error) {
        // The first failure is the one to tell; an unusable copy must not stay.
        await target.close().catch(() => undefined);
        await this.remove(to).catch(() => undefined);
        throw error;
      }
    } finally {
      await source.close();
    }
  }

  async freeSpace(path: string): Promise<{ freeBytes: number; totalBytes: number }> {
    return await this.#withPath(path, async (table) => {
      const address = table.address + pathOffset;
      const { result, result2 } = await this.#run("asking for free space", path, { op: Op.statvfs, address });
      return { freeBytes: result, totalBytes: result2 };
    });
  }

  async #run(what: string, file: string, job: { op: Op; address: number; extra?: number; flags?: number }) {
    const done = await this.#runner.run({ ...job, isSlow: true });
    if (done.result < 0) throw errnoError(what, -done.result, { file });
    return done;
  }

  /** Lends a table that holds the path as a C string at {@link pathOffset}. */
  #withPath<T>(path: string, use: (table: Table) => Promise<T>): Promise<T> {
    const text = new TextEncoder().encode(path);
    if (text.length === 0 || text.includes(0)) {
      return Promise.reject(new WalbError("bad-parameter", { what: `"${path}" is not a path` }));
    }
    return withTable(pathOffset + text.length + 1, (table) => {
      table.bytes.set(text, pathOffset);
      table.bytes[pathOffset + text.length] = 0;
      return use(table);
    });
  }

  /** A name that a crash leaves behind at most once, and that the next write reuses. */
  #takeTemporaryName(path: string): string {
    for (let i = 0; ; i++) {
      const name = i === 0 ? `${path}.tmp` : `${path}.${i}.tmp`;
      if (this.#temporaryNames.has(name)) continue;
      this.#temporaryNames.add(name);
      return name;
    }
  }
}

function openFlags(options: OpenOptions): number {
  const byMode = {
    read: 0,
    write: OpenFlag.write,
    create: OpenFlag.write | OpenFlag.create | OpenFlag.exclusive,
    createOrOpen: OpenFlag.write | OpenFlag.create,
  };
  return (
    byMode[options.mode] | (options.direct === true ? OpenFlag.direct : 0) | (options.lock === true ? OpenFlag.lock : 0)
  );
}

function lockedError(path: string, what = "it", usedPath = path): WalbError {
  return new WalbError("locked", {
    what: `${what} is in use by another process`,
    where: { file: path },
    hint: `find out which with: fuser -v ${usedPath}`,
  });
}
