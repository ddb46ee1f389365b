/** @module Opening what a tool reads and writes: paths, block devices, `-` for standard input and output. */
import { chmodSync, chownSync, closeSync, fstatSync, readFileSync, statSync } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { commitDiffFile } from "../../../diff/commit.ts";
import type { DiffInput } from "../../../diff/stream.ts";
import { WalbError } from "../../../errors.ts";
import type { Disk, DiskFile } from "../../../platform/disk.ts";
import type { Platform } from "../../../platform/platform.ts";
import { renamed } from "./named.ts";
import { partialBegins, partialEnds } from "./partial.ts";
import { isStandardOutput, isTerminalOutput, openStream, SequentialOutput, standardInput } from "./stdio.ts";

/** A sequential input that must be closed. */
export interface OpenInput extends DiffInput {
  /** undefined when it is not known, as for a pipe. */
  readonly sizeBytes: number | undefined;
  /** Where what was read can be read again, at any place; undefined for a pipe. */
  readonly again?: { readonly path: string; readonly offsetBytes: number } | undefined;
  /** Passes over bytes without reading them; the answer is less only at the end. Not there for a pipe. */
  skip?(sizeBytes: number): number;
  close(): Promise<void>;
}

/** Opens a file, a block device, or `-`, for reading from front to back, starting at `offsetBytes`. */
export async function openInput(disk: Disk, path: string, offsetBytes = 0): Promise<OpenInput> {
  if (path === "-") {
    const input = standardInput();
    const file = seekableStandardInput();
    const again = file === undefined ? undefined : { path: file, offsetBytes: 0 };
    return { ...input, sizeBytes: undefined, again, close: () => Promise.resolve() };
  }
  const info = await disk.info(path);
  if (info?.kind === "directory") {
    throw new WalbError("usage", { what: "a directory was given where a file is needed", where: { file: path } });
  }
  if (info?.kind === "other") {
    const input = standardInput(await openStream(path, "r"), path);
    return { ...input, sizeBytes: undefined, close: () => Promise.resolve(input.end()) };
  }
  const file = await disk.open(path, { mode: "read" });
  const sizeBytes = await file.size();
  if (offsetBytes > sizeBytes) {
    await file.close();
    const what = `it has only ${sizeBytes} bytes, fewer than the offset ${offsetBytes}`;
    throw new WalbError("out-of-range", { what, where: { file: path, field: "offset" } });
  }
  let at = offsetBytes;
  return {
    name: path,
    sizeBytes: Math.max(0, sizeBytes - offsetBytes),
    again: { path, offsetBytes },
    skip: (wantedBytes) => {
      const takeBytes = Math.max(0, Math.min(wantedBytes, sizeBytes - at));
      at += takeBytes;
      return takeBytes;
    },
    read: async (target) => {
      const takeBytes = Math.max(0, Math.min(target.sizeBytes, sizeBytes - at));
      if (takeBytes > 0) await file.read(at, target.slice(0, takeBytes));
      at += takeBytes;
      return takeBytes;
    },
    close: () => file.close(),
  };
}

/** The path under which standard input can be read at any place, when it is a regular file at its start. */
function seekableStandardInput(): string | undefined {
  if (!fstatSync(0).isFile()) return undefined;
  const position = /^pos:\s*(\d+)$/m.exec(readFileSync("/proc/self/fdinfo/0", "utf8"))?.[1];
  return position === "0" ? "/proc/self/fd/0" : undefined;
}

/** An output: committed when all is written, or abandoned. */
export interface Output {
  readonly file: DiskFile;
  /** Makes it durable, under its name. */
  commit(): Promise<void>;
  /** Closes it and removes what was begun. */
  abandon(): Promise<void>;
}

/**
 * Opens an output. A file is written aside and renamed when it is complete, so that nobody sees a part of it.
 * @throws WalbError `already-exists` unless `overwrite`; `usage` for data to a terminal.
 */
export async function openOutput(
  platform: Platform,
  path: string,
  options: { readonly overwrite: boolean },
): Promise<Output> {
  const { disk, random } = platform;
  if (isStandardOutput(path)) {
    if (isTerminalOutput()) {
      throw new WalbError("usage", { what: "data is not written to a terminal", hint: "redirect it, or name a file" });
    }
    return sequential(new SequentialOutput(1, "standard output"));
  }
  const info = await disk.info(path);
  if (info?.kind === "directory") {
    throw new WalbError("usage", { what: "a directory was given where a file is needed", where: { file: path } });
  }
  if (info?.kind === "other") {
    const fd = await openStream(path, "w");
    return sequential(new SequentialOutput(fd, path, () => closeSync(fd)));
  }
  if (info !== undefined && !options.overwrite) throw existsError(path);
  if (info?.kind === "block") {
    const file = await disk.open(path, { mode: "write" });
    return { file, commit: () => syncAndClose(file), abandon: () => file.close() };
  }
  // Behind a symbolic link its target is replaced, not the link.
  const target = await disk.realPath(resolve(path));
  const partial = join(dirname(target), `.${basename(target)}.${random.u32().toString(16)}.tmp`);
  const file = await disk.open(partial, { mode: "create" });
  partialBegins(partial);
  return {
    file,
    commit: async () => {
      giveAccess(partial, target);
      await commitDiffFile(disk, file, target);
      partialEnds(partial);
    },
    abandon: async () => {
      await file.close();
      await disk.remove(partial);
      partialEnds(partial);
    },
  };
}

/** Runs `work` on an output and commits it, or abandons it when it fails. */
export async function withOutput<R>(
  platform: Platform,
  path: string,
  options: { readonly overwrite: boolean },
  work: (file: DiskFile) => Promise<R>,
): Promise<R> {
  const output = await openOutput(platform, path, options);
  const named = { path: output.file.path, name: path };
  let result: R;
  try {
    result = await work(output.file);
  } catch (error) {
    await output.abandon();
    throw renamed(error, [named]);
  }
  try {
    await output.commit();
  } catch (error) {
    throw renamed(error, [named]);
  }
  return result;
}

/** The new file may be read by whom the one it replaces may be; a file that replaces none by whom the umask says. */
function giveAccess(path: string, target: string): void {
  const old = statSync(target, { throwIfNoEntry: false });
  if (old !== undefined && process.getuid?.() === 0) chownSync(path, old.uid, old.gid);
  chmodSync(path, old === undefined ? 0o666 & ~process.umask() : old.mode & 0o7777);
}

/** Runs `work` on an input and closes it. */
export async function withInput<R>(
  disk: Disk,
  path: string,
  work: (input: OpenInput) => Promise<R>,
  offsetBytes = 0,
): Promise<R> {
  const input = await openInput(disk, path, offsetBytes);
  try {
    return await work(input);
  } finally {
    await input.close();
  }
}

/** Runs `work` on an existing file or block device, opened buffered, and closes it. */
export async function withFile<R>(
  disk: Disk,
  path: string,
  mode: "read" | "write",
  work: (file: DiskFile) => Promise<R>,
): Promise<R> {
  const info = await disk.info(path);
  if (info !== undefined && info.kind !== "file" && info.kind !== "block") {
    throw new WalbError("usage", { what: "neither a file nor a block device", where: { file: path } });
  }
  const file = await disk.open(path, { mode, lock: mode === "write" });
  try {
    return await work(file);
  } finally {
    await file.close();
  }
}

function sequential(file: SequentialOutput): Output {
  return { file, commit: () => file.close(), abandon: () => file.close() };
}

async function syncAndClose(file: DiskFile): Promise<void> {
  try {
    await file.sync();
  } finally {
    await file.close();
  }
}

function existsError(path: string): WalbError {
  return new WalbError("already-exists", {
    what: "it exists already",
    where: { file: path },
    hint: "add --overwrite to replace it",
  });
}
