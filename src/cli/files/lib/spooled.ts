/**
 * @module Pipes whose content is read at any place: put into a nameless temporary file first, of which nothing is left
 * whatever becomes of the process.
 */
import { closeSync, existsSync, ftruncateSync, openSync, statfsSync, statSync, unlinkSync, write } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileHeaderBytes, parseFileHeader, truncated } from "../../../diff/format.ts";
import { DiffFileKind } from "../../../diff/types.ts";
import { WalbError } from "../../../errors.ts";
import { superblockOffsetBytes } from "../../../log/geometry.ts";
import type { Memory } from "../../../native/memory.ts";
import type { DiskFile } from "../../../platform/disk.ts";
import { kib, mib } from "../../../units.ts";
import { renamed } from "./named.ts";
import { type OpenInput, openInput, withFile, withInput } from "./paths.ts";
import type { Tool } from "./tool.ts";

/** Something that can be read at any place. */
export interface Seekable {
  /** Where it is read. */
  readonly path: string;
  /** What the user called it, for messages. */
  readonly name: string;
  close(): void;
}

const stepBytes = mib;
const holeBytes = 64 * kib;
/** The spool leaves at least this part of its file system free. */
const freeShare = 0.05;

/**
 * A file or block device as it is; what a pipe holds in a temporary file.
 * @param isWanted looks at the first MiB of a pipe: of what is not wanted no more is stored.
 */
export async function seekable(tool: Tool, path: string, isWanted?: (head: Uint8Array) => boolean): Promise<Seekable> {
  const { disk } = tool.platform;
  const info = path === "-" ? undefined : await disk.info(path);
  if (path !== "-" && info?.kind !== "other") return asItIs(path, path);
  if (path !== "-" && isWanted === undefined && statSync(path).isCharacterDevice()) {
    throw new WalbError("usage", {
      what: "it never ends: a file, block device or pipe is needed",
      where: { file: path },
    });
  }
  return spoolOf(tool, await openInput(disk, path), isWanted);
}

/** A diff to be read at any place. A pipe that holds no diff is not stored. */
async function seekableDiff(tool: Tool, path: string): Promise<Seekable> {
  const opened = await openDiff(tool, path);
  return "path" in opened ? opened : spoolOf(tool, opened);
}

/** A diff as it can be read: at any place; or front to back, when it is a sorted one in a pipe. */
export async function openDiff(tool: Tool, path: string): Promise<Seekable | OpenInput> {
  const { disk, memory, compute } = tool.platform;
  const info = path === "-" ? undefined : await disk.info(path);
  if (path !== "-" && info?.kind !== "other") return asItIs(path, path);
  const input = await openInput(disk, path);
  if (input.again !== undefined) {
    await input.close();
    return asItIs(input.again.path, input.name);
  }
  const lease = await memory.lease(fileHeaderBytes);
  let head: Uint8Array;
  let kind: DiffFileKind;
  try {
    const gotBytes = await input.read(lease.slice(0, fileHeaderBytes));
    head = lease.bytes.slice(0, gotBytes);
    const place = { file: input.name, offsetBytes: 0 };
    if (gotBytes < fileHeaderBytes) throw truncated("the input is shorter than a diff header", place);
    ({ kind } = parseFileHeader(head, compute, place));
  } catch (error) {
    await input.close();
    throw error;
  } finally {
    lease.release();
  }
  const whole = withHead(input, head);
  return kind === DiffFileKind.sorted ? whole : spoolOf(tool, whole);
}

function asItIs(path: string, name: string): Seekable {
  return { path, name, close: () => undefined };
}

/** An input of which the first bytes were read already. */
function withHead(input: OpenInput, head: Uint8Array): OpenInput {
  let rest = head;
  return {
    ...input,
    read: async (target) => {
      const takeBytes = Math.min(rest.length, target.sizeBytes);
      target.bytes.set(rest.subarray(0, takeBytes));
      rest = rest.subarray(takeBytes);
      if (takeBytes === target.sizeBytes) return takeBytes;
      return takeBytes + (await input.read(target.slice(takeBytes, target.sizeBytes - takeBytes)));
    },
  };
}

/** Stores all of an input, and closes it. */
async function spoolOf(tool: Tool, input: OpenInput, isWanted?: (head: Uint8Array) => boolean): Promise<Seekable> {
  const lease = await tool.platform.memory.lease(stepBytes);
  let fd: number | undefined;
  try {
    if (input.again !== undefined) return asItIs(input.again.path, input.name);
    const directory = spoolDirectory();
    fd = openNameless(tool, directory);
    let sizeBytes = 0;
    for (;;) {
      if (tool.signal.aborted) throw new WalbError("cancelled", { what: "reading a pipe was cancelled" });
      const gotBytes = await input.read(lease.slice(0, stepBytes));
      if (sizeBytes % (64 * mib) === 0) checkRoom(directory, input.name);
      await store(fd, lease.slice(0, gotBytes), sizeBytes, tool, directory, input.name);
      sizeBytes += gotBytes;
      if (gotBytes < stepBytes) break;
      if (sizeBytes === stepBytes && isWanted?.(lease.bytes.subarray(0, gotBytes)) === false) break;
    }
    ftruncateSync(fd, sizeBytes);
    const made = fd;
    return { path: `/proc/self/fd/${made}`, name: input.name, close: () => closeSync(made) };
  } catch (error) {
    if (fd !== undefined) closeSync(fd);
    throw error;
  } finally {
    lease.release();
    await input.close();
  }
}

/** A new file that has no name any more. */
export function openNameless(tool: Tool, directory: string): number {
  const path = join(directory, `.walb-spool.${tool.platform.random.u32().toString(16)}.tmp`);
  try {
    const fd = openSync(path, "wx+", 0o600);
    unlinkSync(path);
    return fd;
  } catch (error) {
    const hint = "set TMPDIR to a directory where files can be made";
    throw new WalbError("io", {
      what: "no temporary file can be made",
      where: { file: directory },
      hint,
      cause: error,
    });
  }
}

/** Writes what is not zero. */
async function store(
  fd: number,
  data: Memory,
  startBytes: number,
  tool: Tool,
  directory: string,
  name: string,
): Promise<void> {
  for (let at = 0; at < data.sizeBytes; at += holeBytes) {
    const part = data.slice(at, Math.min(holeBytes, data.sizeBytes - at));
    if (tool.platform.compute.isZeroNow(part.bytes)) continue;
    for (let done = 0; done < part.sizeBytes; ) {
      done += await writeSome(fd, part.bytes, done, startBytes + at + done, directory, name);
    }
  }
}

function writeSome(
  fd: number,
  bytes: Uint8Array,
  at: number,
  offsetBytes: number,
  directory: string,
  name: string,
): Promise<number> {
  return new Promise((resolve, reject) => {
    write(fd, bytes, at, bytes.length - at, offsetBytes, (error, count) => {
      if (error === null) resolve(count);
      else if (error.code === "ENOSPC") reject(noRoom(directory, name));
      else reject(new WalbError("io", { what: "write failed", where: { file: directory }, cause: error }));
    });
  });
}

function checkRoom(directory: string, name: string): void {
  const { bavail, blocks } = statfsSync(directory);
  if (bavail < blocks * freeShare) throw noRoom(directory, name);
}

function noRoom(directory: string, name: string): WalbError {
  return new WalbError("no-space", {
    what: `${directory} has not enough room for what the pipe ${name} holds`,
    where: { file: directory },
    hint: "set TMPDIR to a directory with more room, or give a file instead of a pipe",
  });
}

/** `TMPDIR`, or where large files may be: `/tmp` is often in memory. */
export function spoolDirectory(): string {
  const asked = process.env.TMPDIR;
  if (asked !== undefined && asked !== "") return asked;
  return existsSync("/var/tmp") && statSync("/var/tmp").isDirectory() ? "/var/tmp" : tmpdir();
}

/** Runs `work` on diffs that can be read at any place, which it knows by `path`; errors name what the user gave. */
export async function withSeekableDiffs<R>(
  tool: Tool,
  paths: readonly string[],
  work: (paths: readonly string[]) => Promise<R>,
): Promise<R> {
  const inputs: Seekable[] = [];
  try {
    for (const path of paths) inputs.push(await seekableDiff(tool, path));
    return await work(inputs.map((input) => input.path));
  } catch (error) {
    throw renamed(error, inputs);
  } finally {
    for (const input of inputs) input.close();
  }
}

/** Runs `work` on an input that can be read again at any place, which `again` says. */
export async function withRereadable<R>(tool: Tool, path: string, work: (input: OpenInput) => Promise<R>): Promise<R> {
  const source = await seekable(tool, path);
  try {
    return await withInput(tool.platform.disk, source.path, (input) => work({ ...input, name: source.name }));
  } finally {
    source.close();
  }
}

/** Runs `work` on the file, block device or content of a pipe that a log device is, to be read at any place. */
export async function withReadable<R>(tool: Tool, path: string, work: (file: DiskFile) => Promise<R>): Promise<R> {
  const input = await seekable(tool, path, hasSuperblock);
  try {
    return await withFile(tool.platform.disk, input.path, "read", work);
  } catch (error) {
    throw renamed(error, [input]);
  } finally {
    input.close();
  }
}

/** Whether the first bytes of a pipe may be those of a log device: its superblock is checked when all is there. */
function hasSuperblock(head: Uint8Array): boolean {
  return head[superblockOffsetBytes] === 1 && head[superblockOffsetBytes + 1] === 0;
}
