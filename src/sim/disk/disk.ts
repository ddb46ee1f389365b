/** @module The Disk of one simulated process, over the storage of its host. */
import { resolve } from "node:path";
import { WalbError } from "../../errors.ts";
import type { Memory } from "../../native/memory.ts";
import type { Disk, DiskFile, FileCopyOptions, FileInfo, OpenOptions } from "../../platform/disk.ts";
import { alignUp } from "../../units.ts";
import type { DiskOperationKind } from "../api.ts";
import { leaseSlab } from "../memory.ts";
import type { SimProcess } from "../process.ts";
import { SimDiskFile } from "./file.ts";
import type { Storage } from "./storage.ts";
import { alreadyExists, type FileNode, newFile, notFound, parentOf } from "./tree.ts";

const progressBytes = 1024 * 1024;

export class SimDisk implements Disk {
  private readonly temporaryNames = new Set<string>();

  constructor(
    readonly process: SimProcess,
    readonly storage: Storage,
    readonly nowMs: () => number,
  ) {}

  open(path: string, options: OpenOptions): Promise<DiskFile> {
    const mutates = options.mode === "create" || options.mode === "createOrOpen";
    const find = () => this.openNode(path, options);
    return this.operate("open", path, mutates, find, mutates ? () => void find() : undefined).then((node) => {
      const file = new SimDiskFile(this, node, path, options);
      if (options.lock === true) node.lock = this;
      return file;
    });
  }

  info(path: string): Promise<FileInfo | undefined> {
    return this.operate("query", path, false, () => {
      const node = this.storage.tree.find(path);
      if (node === undefined) return undefined;
      if (node.kind === "directory") {
        return { kind: "directory", sizeBytes: 4096, allocatedBytes: 4096, modifiedMs: node.modifiedMs };
      }
      const { sizeBytes, allocatedBytes } = node.content;
      const allocated = node.kind === "block" ? sizeBytes : allocatedBytes;
      return { kind: node.kind, sizeBytes, allocatedBytes: allocated, modifiedMs: node.modifiedMs };
    });
  }

  /** There are no links here. */
  async realPath(path: string): Promise<string> {
    return resolve("/", path);
  }

  list(path: string): Promise<string[]> {
    return this.operate("query", path, false, () => [...this.storage.tree.directory(path).entries.keys()].sort());
  }

  makeDirectory(path: string): Promise<void> {
    return this.change("makeDirectory", path, () => this.storage.tree.makeDirectory(path, this.nowMs()));
  }

  readSmall(path: string, maxBytes: number): Promise<Uint8Array> {
    return this.operate("read", path, false, () => {
      const { content } = this.storage.tree.file(path);
      if (content.sizeBytes > maxBytes) {
        const what = `the file has ${content.sizeBytes} bytes, more than the ${maxBytes} it may have`;
        throw new WalbError("bad-format", { what, where: { file: path } });
      }
      const bytes = new Uint8Array(content.sizeBytes);
      content.read(0, bytes);
      return bytes;
    });
  }

  async writeSmall(path: string, bytes: Uint8Array): Promise<void> {
    const temporary = this.takeTemporaryName(path);
    const copy = bytes.slice();
    const file = await this.open(temporary, { mode: "createOrOpen" });
    try {
      await file.truncate(0);
      if (copy.length > 0) await this.writeBytes(file, copy);
      await file.sync();
      await file.close();
      await this.rename(temporary, path);
    } catch (error) {
      await file.close();
      await this.remove(temporary);
      throw error;
    } finally {
      this.temporaryNames.delete(temporary);
    }
    await this.syncDirectory(parentOf(path));
  }

  rename(from: string, to: string): Promise<void> {
    return this.change("rename", to, () => this.storage.tree.rename(from, to, this.nowMs()));
  }

  link(from: string, to: string): Promise<void> {
    return this.change("link", to, () => this.storage.tree.add(to, this.storage.tree.file(from), this.nowMs()));
  }

  remove(path: string): Promise<void> {
    return this.change("remove", path, () => {
      const node = this.storage.tree.find(path);
      if (node === undefined) return;
      this.storage.tree.file(path);
      this.storage.tree.remove(path, this.nowMs());
    });
  }

  async removeTree(path: string): Promise<void> {
    for (const name of await this.namesIn(path)) await this.removeTree(`${path}/${name}`);
    await this.change("remove", path, () => {
      if (this.storage.tree.find(path) !== undefined) this.storage.tree.remove(path, this.nowMs());
    });
  }

  syncDirectory(path: string): Promise<void> {
    const { tree } = this.storage;
    const mark = tree.mark;
    return this.change("syncDirectory", path, () => tree.syncDirectory(tree.directory(path), mark));
  }

  async cloneFile(from: string, to: string, options: FileCopyOptions = {}): Promise<"reflink" | "copy"> {
    const { tree } = this.storage;
    const target = await this.open(to, { mode: "create", lock: true });
    try {
      const totalBytes = await this.operate("query", from, false, () => tree.file(from).content.sizeBytes);
      const reflink = this.storage.reflink && tree.file(from).kind === "file";
      if (!reflink) await this.passProgress(to, totalBytes, options);
      await this.change("clone", to, () => {
        const source = tree.file(from);
        const node = tree.file(to);
        if (!reflink) this.storage.reserve(node, to, 0, alignUp(source.content.allocatedBytes, 4096));
        node.content.cloneFrom(source.content, reflink);
      });
      await target.sync();
      options.onProgress?.(totalBytes, totalBytes);
      await target.close();
      await this.syncDirectory(parentOf(to));
      return reflink ? "reflink" : "copy";
    } catch (error) {
      await target.close();
      await this.remove(to);
      throw error;
    }
  }

  freeSpace(path: string): Promise<{ freeBytes: number; totalBytes: number }> {
    return this.operate("query", path, false, () => {
      if (this.storage.tree.find(path) === undefined) throw notFound(path);
      return this.storage.space();
    });
  }

  /** The time a copy takes, and the chance to cancel it. */
  private async passProgress(path: string, totalBytes: number, options: FileCopyOptions): Promise<void> {
    const step = Math.max(progressBytes, Math.ceil(totalBytes / 64));
    for (let copied = 0; copied < totalBytes; copied += step) {
      if (options.signal?.aborted === true) {
        const what = "the copy was cancelled";
        throw new WalbError("cancelled", { what, where: { file: path }, cause: options.signal.reason });
      }
      options.onProgress?.(copied, totalBytes);
      await this.change("write", path, () => {});
    }
  }

  /** The same names as the real disk takes: a crash leaves one behind at most, and the next write reuses it. */
  private takeTemporaryName(path: string): string {
    let name = `${path}.tmp`;
    for (let i = 1; this.temporaryNames.has(name); i++) name = `${path}.${i}.tmp`;
    this.temporaryNames.add(name);
    return name;
  }

  private async namesIn(path: string): Promise<string[]> {
    return this.operate("query", path, false, () => {
      const node = this.storage.tree.find(path);
      return node?.kind === "directory" ? [...node.entries.keys()].sort() : [];
    });
  }

  private openNode(path: string, options: OpenOptions): FileNode {
    const { tree } = this.storage;
    if (options.mode === "create" && tree.find(path) !== undefined) throw alreadyExists(path);
    if ((options.mode === "create" || options.mode === "createOrOpen") && tree.find(path) === undefined) {
      tree.add(path, newFile(this.nowMs(), this.storage.alignmentBytes), this.nowMs());
    }
    const node = tree.file(path);
    if (options.lock === true && node.lock?.process.isAlive === true) {
      throw new WalbError("locked", {
        what: "the file is locked by another process",
        where: { file: path },
        hint: "stop the process that uses it",
      });
    }
    return node;
  }

  private async writeBytes(file: DiskFile, bytes: Uint8Array): Promise<void> {
    const lease = leaseSlab(bytes.length);
    const holding = { reclaim: () => lease.release() };
    this.process.holdings.add(holding);
    try {
      const memory: Memory = lease;
      memory.bytes.set(bytes);
      await file.write(0, memory);
    } finally {
      this.process.holdings.delete(holding);
      lease.release();
    }
  }

  private change(kind: DiskOperationKind, path: string, work: () => void): Promise<void> {
    return this.operate(kind, path, true, work, work);
  }

  private operate<T>(
    kind: DiskOperationKind,
    path: string,
    mutates: boolean,
    work: () => T,
    land?: () => void,
  ): Promise<T> {
    const request = { kind, path, offsetBytes: 0, sizeBytes: 0, mutates };
    return this.storage.operate(this.process, request, work, land === undefined ? {} : { land });
  }
}
