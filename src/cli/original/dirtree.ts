/**
 * @module The hash of a directory tree, of `dirtree-hash`. The original's is not specified; this one is described in
 * `docs/formats-differences.md`, so that others can compute it.
 */
import { lstat, open, readdir, readlink } from "node:fs/promises";
import { asWalbError, WalbError } from "../../errors.ts";
import { SipHash } from "../../native/siphash.ts";
import { mib } from "../../units.ts";

/** What of an entry counts beside name, kind and content. */
export interface DirtreeOptions {
  /** Time of last change, in whole seconds. */
  readonly time: boolean;
  /** Numbers of user and group. */
  readonly owner: boolean;
  /** The twelve bits of the mode. */
  readonly permissions: boolean;
  /** Files read at once. */
  readonly parallel: number;
  readonly signal: AbortSignal;
  /** Hears every entry below the directory, a directory behind what is in it. `path` begins with the directory. */
  readonly onEntry?: (path: string, hash: string) => void;
}

/** An entry as it enters the hash of its directory. */
interface Entry {
  readonly name: Buffer;
  readonly path: Buffer;
  readonly kind: "directory" | "file" | "link" | "other";
  readonly stat: Awaited<ReturnType<typeof lstat>>;
  hash: string;
}

const slash = Buffer.from("/");

/**
 * Hashes a directory and all below it, links not followed. Whatever order the file system has, the hash is the same.
 * @throws WalbError `io` naming what cannot be read, `not-found`, `usage` for what is no directory.
 */
export async function hashDirectoryTree(directory: string, options: DirtreeOptions): Promise<string> {
  const root = Buffer.from(directory);
  const stat = await at(root, () => lstat(root));
  if (!stat.isDirectory()) {
    throw new WalbError("usage", { what: "it is no directory", where: { file: directory } });
  }
  return hashDirectory(root, options);
}

async function hashDirectory(path: Buffer, options: DirtreeOptions): Promise<string> {
  const names = await at(path, () => readdir(path, { encoding: "buffer" }));
  names.sort(Buffer.compare);
  const entries: Entry[] = [];
  for (const name of names) {
    const one = path.at(-1) === slash[0] ? Buffer.concat([path, name]) : Buffer.concat([path, slash, name]);
    const stat = await at(one, () => lstat(one));
    const kind = stat.isDirectory() ? "directory" : stat.isFile() ? "file" : stat.isSymbolicLink() ? "link" : "other";
    entries.push({ name, path: one, kind, stat, hash: "" });
  }
  // Files of one directory several at once; directories one behind the other, so that open files stay few.
  let next = 0;
  const files = entries.filter(({ kind }) => kind !== "directory");
  const worker = async (): Promise<void> => {
    for (let i = next++; i < files.length; i = next++) files[i]!.hash = await hashOther(files[i]!, options);
  };
  await Promise.all(Array.from({ length: Math.min(options.parallel, files.length) }, worker));
  const hash = new SipHash();
  try {
    for (const entry of entries) {
      if (entry.kind === "directory") entry.hash = await hashDirectory(entry.path, options);
      options.onEntry?.(entry.path.toString(), entry.hash);
      hash.update(Buffer.from(`${entry.kind} ${entry.hash}${metadataText(entry, options)} `));
      hash.update(entry.name);
      hash.update(Buffer.of(0));
    }
    return hash.end();
  } finally {
    hash.release();
  }
}

function metadataText({ stat }: Entry, options: DirtreeOptions): string {
  const time = options.time ? ` ${Math.floor(Number(stat.mtimeMs) / 1000)}` : "";
  const owner = options.owner ? ` ${stat.uid}:${stat.gid}` : "";
  const permissions = options.permissions ? ` ${(Number(stat.mode) & 0o7777).toString(8).padStart(4, "0")}` : "";
  return `${time}${owner}${permissions}`;
}

async function hashOther(entry: Entry, options: DirtreeOptions): Promise<string> {
  const { path, kind, stat } = entry;
  if (kind === "file") return at(path, () => hashFile(path, options.signal));
  const hash = new SipHash();
  try {
    if (kind === "link") hash.update(await at(path, () => readlink(path, { encoding: "buffer" })));
    else hash.update(Buffer.from(`${Number(stat.mode) & 0o170000} ${stat.rdev}`));
    return hash.end();
  } finally {
    hash.release();
  }
}

/** The hash of its content: that of `bhash`. */
async function hashFile(path: Buffer, signal: AbortSignal): Promise<string> {
  const hash = new SipHash();
  const file = await open(path, "r");
  try {
    const buffer = Buffer.allocUnsafe(mib);
    for (;;) {
      if (signal.aborted) throw new WalbError("cancelled", { what: "hashing was cancelled" });
      const { bytesRead } = await file.read(buffer, 0, buffer.length, null);
      if (bytesRead === 0) return hash.end();
      hash.update(buffer.subarray(0, bytesRead));
    }
  } finally {
    hash.release();
    await file.close();
  }
}

async function at<R>(path: Buffer, work: () => Promise<R>): Promise<R> {
  const file = path.toString();
  try {
    return await work();
  } catch (error) {
    if (error instanceof WalbError) throw asWalbError(error, { file });
    const code = error instanceof Error && "code" in error ? String(error.code) : "";
    const what = `it cannot be read${code === "" ? "" : ` (${code})`}`;
    throw new WalbError(code === "ENOENT" ? "not-found" : "io", { what, where: { file }, cause: error });
  }
}
