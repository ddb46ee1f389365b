/**
 * @module The directory tree of a host, with its durable shadow.
 *
 * Every change of names is a list of entry settings that happen together (a rename has two). It is pending until the
 * directory is synced; at a power loss a chance prefix of what is pending survives. A file whose name was not made
 * durable is gone even if its contents were synced.
 */
import type { Database } from "bun:sqlite";
import { WalbError } from "../../errors.ts";
import type { SimRandom } from "../api.ts";
import { Content, type Survival } from "./content.ts";

/** A regular file or a block device. */
export interface FileNode {
  readonly kind: "file" | "block";
  readonly content: Content;
  readonly physicalBlockBytes: 512 | 4096;
  readonly logicalBlockBytes: 512 | 4096;
  modifiedMs: number;
  /** Whoever holds the lock; a dead process holds none. */
  lock: { readonly process: { readonly isAlive: boolean } } | undefined;
  /** The SQLite database that the file is, see `databases.ts`. */
  database: DatabaseContent | undefined;
}

/** A database: open in a process, or bytes between two processes. */
export interface DatabaseContent {
  open: Database | undefined;
  bytes: Uint8Array | undefined;
  isDamaged: boolean;
  /** What was there before commits that are not synced, and how many rows had been changed behind the last of them. */
  synced: { bytes: Uint8Array; changesBehind: bigint } | undefined;
}

export interface DirectoryNode {
  readonly kind: "directory";
  entries: Map<string, Node>;
  durable: Map<string, Node>;
  modifiedMs: number;
}

export type Node = FileNode | DirectoryNode;

interface EntrySetting {
  readonly directory: DirectoryNode;
  readonly name: string;
  readonly node: Node | undefined;
}

interface NameChange {
  readonly sequence: number;
  readonly settings: readonly EntrySetting[];
}

/** Names pending beyond this many become durable, oldest first, as a journal of bounded size does. */
const pendingMax = 4096;

export class Tree {
  readonly root: DirectoryNode = newDirectory(0);
  private pending: NameChange[] = [];
  private sequence = 0;

  /** What {@link syncDirectory} needs: every change until now. */
  get mark(): number {
    return this.sequence;
  }

  /** The node at a path, undefined when there is none. */
  find(path: string): Node | undefined {
    let node: Node = this.root;
    for (const name of names(path)) {
      if (node.kind !== "directory") return undefined;
      const next = node.entries.get(name);
      if (next === undefined) return undefined;
      node = next;
    }
    return node;
  }

  /** @throws WalbError `not-found`; `io` when it is a directory. */
  file(path: string): FileNode {
    const node = this.find(path);
    if (node === undefined) throw notFound(path);
    if (node.kind === "directory") throw failed(path, "is a directory");
    return node;
  }

  /** @throws WalbError `not-found`; `io` when it is no directory. */
  directory(path: string): DirectoryNode {
    const node = this.find(path);
    if (node === undefined) throw notFound(path);
    if (node.kind !== "directory") throw failed(path, "is not a directory");
    return node;
  }

  /** Adds a node under a new name. @throws WalbError `already-exists`, `not-found` for the directory. */
  add(path: string, node: Node, nowMs: number): void {
    const { directory, name } = this.place(path);
    if (directory.entries.has(name)) throw alreadyExists(path);
    this.change([{ directory, name, node }], nowMs);
  }

  /** Adds a directory and its parents, durably. */
  makeDirectory(path: string, nowMs: number): void {
    let directory = this.root;
    for (const name of names(path)) {
      const next = directory.entries.get(name);
      // What is pending under this name, as a rename, must not come after what is durable at once.
      this.syncDirectory(directory, this.mark);
      if (next === undefined) {
        const made = newDirectory(nowMs);
        directory.entries.set(name, made);
        directory.durable.set(name, made);
        directory.modifiedMs = nowMs;
        directory = made;
      } else if (next.kind === "directory") directory = next;
      else throw failed(path, `${name} is not a directory`);
    }
  }

  rename(from: string, to: string, nowMs: number): void {
    const source = this.place(from);
    const target = this.place(to);
    const node = source.directory.entries.get(source.name);
    if (node === undefined) throw notFound(from);
    const replaced = target.directory.entries.get(target.name);
    if (replaced === node) return;
    if (node.kind === "directory" && `${normal(to)}/`.startsWith(`${normal(from)}/`)) {
      throw failed(from, `cannot be renamed into itself, ${to}`);
    }
    if (replaced?.kind === "directory") {
      if (node.kind !== "directory") throw failed(to, "is a directory");
      if (replaced.entries.size > 0) throw failed(to, "is not empty");
    } else if (replaced !== undefined && node.kind === "directory") throw failed(to, "is not a directory");
    this.change(
      [
        { ...source, node: undefined },
        { ...target, node },
      ],
      nowMs,
    );
  }

  /** Removes a name; false when there was none. */
  remove(path: string, nowMs: number): boolean {
    const { directory, name } = this.place(path);
    const node = directory.entries.get(name);
    if (node === undefined) return false;
    if (node.kind === "directory" && node.entries.size > 0) throw failed(path, "is not empty");
    this.change([{ directory, name, node: undefined }], nowMs);
    return true;
  }

  /** Makes the changes of a directory before the mark durable, and what they are bound to by renames. */
  syncDirectory(directory: DirectoryNode, mark: number): void {
    const directories = new Set([directory]);
    const isBound = (change: NameChange) =>
      change.sequence < mark && change.settings.some((setting) => directories.has(setting.directory));
    for (let size = 0; size !== directories.size; ) {
      size = directories.size;
      for (const change of this.pending) {
        if (isBound(change)) for (const setting of change.settings) directories.add(setting.directory);
      }
    }
    this.pending = this.pending.filter((change) => {
      if (!isBound(change)) return true;
      makeDurable(change);
      return false;
    });
  }

  /** Power loss: names and contents. */
  crash(random: SimRandom, survival: Survival): void {
    const whole = this.pending.length;
    const surviving = survival === "none" ? 0 : survival === "all" ? whole : random.between(0, whole);
    for (const change of this.pending.slice(0, surviving)) makeDurable(change);
    this.pending = [];
    const seen = new Set<Node>();
    const revert = (directory: DirectoryNode) => {
      directory.entries = new Map(directory.durable);
      for (const name of [...directory.entries.keys()].sort()) {
        const node = directory.entries.get(name)!;
        if (seen.has(node)) continue;
        seen.add(node);
        if (node.kind === "directory") revert(node);
        else node.content.crash(random, survival);
      }
    };
    revert(this.root);
  }

  /** All files and devices with their paths, sorted. A file with two names comes twice. */
  files(under: DirectoryNode = this.root, prefix = ""): { path: string; node: FileNode }[] {
    const found: { path: string; node: FileNode }[] = [];
    for (const [name, node] of under.entries) {
      if (node.kind === "directory") found.push(...this.files(node, `${prefix}/${name}`));
      else found.push({ path: `${prefix}/${name}`, node });
    }
    return found.sort((a, b) => (a.path < b.path ? -1 : 1));
  }

  private place(path: string): { directory: DirectoryNode; name: string } {
    const parts = names(path);
    const name = parts.pop();
    if (name === undefined) throw failed(path, "is the root directory");
    return { directory: this.directory(`/${parts.join("/")}`), name };
  }

  private change(settings: readonly EntrySetting[], nowMs: number): void {
    for (const { directory, name, node } of settings) {
      if (node === undefined) directory.entries.delete(name);
      else directory.entries.set(name, node);
      directory.modifiedMs = nowMs;
    }
    this.pending.push({ sequence: this.sequence++, settings });
    if (this.pending.length > pendingMax) for (const old of this.pending.splice(0, pendingMax / 2)) makeDurable(old);
  }
}

/** An empty directory. */
function newDirectory(nowMs: number): DirectoryNode {
  return { kind: "directory", entries: new Map(), durable: new Map(), modifiedMs: nowMs };
}

/** An empty regular file. */
export function newFile(nowMs: number, alignmentBytes: 512 | 4096): FileNode {
  return {
    kind: "file",
    content: new Content(0, false),
    physicalBlockBytes: 512,
    logicalBlockBytes: alignmentBytes,
    modifiedMs: nowMs,
    lock: undefined,
    database: undefined,
  };
}

/** The directory part of a path. */
export function parentOf(path: string): string {
  return `/${names(path).slice(0, -1).join("/")}`;
}

export function notFound(path: string): WalbError {
  return new WalbError("not-found", { what: "no such file or directory", where: { file: path } });
}

export function alreadyExists(path: string): WalbError {
  return new WalbError("already-exists", { what: "the file exists already", where: { file: path } });
}

export function failed(path: string, why: string): WalbError {
  return new WalbError("io", { what: `the path ${why}`, where: { file: path } });
}

function makeDurable(change: NameChange): void {
  for (const { directory, name, node } of change.settings) {
    if (node === undefined) directory.durable.delete(name);
    else directory.durable.set(name, node);
  }
}

function normal(path: string): string {
  return `/${names(path).join("/")}`;
}

function names(path: string): string[] {
  if (!path.startsWith("/")) throw failed(path, "is not absolute: the simulator knows no working directory");
  const parts: string[] = [];
  for (const part of path.split("/")) {
    if (part === "..") parts.pop();
    else if (part !== "" && part !== ".") parts.push(part);
  }
  return parts;
}
