/** @module The disk of a simulated host: what survives its processes, and the hand of fate upon it. */
import { WalbError } from "../../errors.ts";
import { checkRange } from "../../units.ts";
import type { DelayRange, DiskFault, DiskOperation, SimDiskOptions, SimRandom, SimStorage } from "../api.ts";
import type { SimProcess } from "../process.ts";
import { Content, type Survival } from "./content.ts";
import { losePower, putDatabasesDown } from "./databases.ts";
import { DiskFaults, faultError, isDelayEffect, isErrorEffect } from "./faults.ts";
import { alreadyExists, type FileNode, parentOf, Tree } from "./tree.ts";

const unlimitedBytes = 2 ** 50;

/** What an operation is, before it is numbered. */
export type OperationRequest = Omit<DiskOperation, "number" | "mutation">;

/** A mutating operation that has begun and not completed. A power loss may let it happen. */
interface InFlight {
  readonly process: SimProcess;
  readonly land: () => void;
}

export class Storage implements SimStorage {
  readonly tree = new Tree();
  readonly reflink: boolean;
  readonly alignmentBytes: 512 | 4096;
  onOperation: ((operation: DiskOperation) => void) | undefined;
  /** The host's own hook, for `crashAtOperation`; runs after the test's. */
  beforeOperation: ((operation: DiskOperation) => void) | undefined;
  operationCount = 0;
  mutationCount = 0;
  private readonly faults = new DiskFaults();
  private readonly inFlight = new Set<InFlight>();
  private readonly delays: Record<"read" | "write" | "sync" | "metadata", DelayRange>;
  private capacityBytes: number;
  /** Open files by handle: they take space even when they have no name any more. */
  private readonly handles = new Map<object, FileNode>();

  constructor(options: SimDiskOptions = {}) {
    this.reflink = options.reflink ?? true;
    this.alignmentBytes = options.alignmentBytes ?? 512;
    this.capacityBytes = options.capacityBytes ?? unlimitedBytes;
    this.delays = {
      read: options.readDelay ?? { minMs: 0.05, maxMs: 0.5 },
      write: options.writeDelay ?? { minMs: 0.02, maxMs: 0.3 },
      sync: options.syncDelay ?? { minMs: 0.2, maxMs: 5 },
      metadata: options.metadataDelay ?? { minMs: 0.01, maxMs: 0.2 },
    };
  }

  /**
   * Begins an operation for a process: numbers it, lets the test look, applies the faults, and does the work after a
   * delay. `failPartly` is what a failing one may still do; `land` what one that a power loss interrupts may do.
   */
  operate<T>(
    process: SimProcess,
    request: OperationRequest,
    work: () => T | Promise<T>,
    effects: { readonly failPartly?: () => void; readonly land?: () => void } = {},
  ): Promise<T> {
    if (!process.isAlive) return process.never();
    this.operationCount++;
    if (request.mutates) this.mutationCount++;
    const operation: DiskOperation = { ...request, number: this.operationCount, mutation: this.mutationCount };
    const entry: InFlight | undefined = effects.land === undefined ? undefined : { process, land: effects.land };
    if (entry !== undefined) this.inFlight.add(entry);
    const effect = this.faults.decide(operation);
    this.onOperation?.(operation);
    if (process.isAlive) this.beforeOperation?.(operation);
    if (!process.isAlive || effect === "hang") return process.never();
    const delayMs = process.delay(this.delayOf(request)) + (isDelayEffect(effect) ? process.delay(effect) : 0);
    const { kind, path, offsetBytes, sizeBytes } = request;
    return process.later(delayMs, `${process.hostName} ${kind} ${path} ${offsetBytes} ${sizeBytes}`, () => {
      if (entry !== undefined) this.inFlight.delete(entry);
      if (!isErrorEffect(effect)) return work();
      effects.failPartly?.();
      throw faultError(effect, operation);
    });
  }

  /** The process is gone: what it had begun may still happen, as the kernel has it. */
  kill(process: SimProcess, random: SimRandom): void {
    this.landInFlight(process, random);
    this.handles.clear();
    putDatabasesDown(this.tree);
  }

  /** Power loss. */
  crash(process: SimProcess, random: SimRandom, survival: Survival): void {
    if (survival === "random") this.landInFlight(process, random);
    this.inFlight.clear();
    this.handles.clear();
    putDatabasesDown(this.tree);
    losePower(this.tree, () => survival === "none" || (survival === "random" && random.chance(0.5)));
    this.tree.crash(random, survival);
  }

  /** @throws WalbError `no-space` when the file system has no room for a write. */
  reserve(node: FileNode, path: string, offsetBytes: number, sizeBytes: number): void {
    if (node.kind === "block" || this.capacityBytes >= unlimitedBytes) return;
    const neededBytes = node.content.newBytes(offsetBytes, sizeBytes);
    if (neededBytes === 0 || neededBytes <= this.freeBytes()) return;
    throw new WalbError("no-space", {
      what: `no space left on the device (ENOSPC): ${neededBytes} bytes needed, ${this.freeBytes()} free`,
      where: { file: path, offsetBytes },
      hint: "make room and retry",
    });
  }

  space(): { freeBytes: number; totalBytes: number } {
    return { freeBytes: this.freeBytes(), totalBytes: this.capacityBytes };
  }

  addHandle(handle: object, node: FileNode): void {
    this.handles.set(handle, node);
  }

  removeHandle(handle: object): void {
    this.handles.delete(handle);
  }

  addBlockDevice(
    path: string,
    options: {
      readonly sizeBytes: number;
      readonly physicalBlockBytes?: 512 | 4096;
      readonly logicalBlockBytes?: 512 | 4096;
    },
  ): void {
    checkRange(options.sizeBytes, 512, Number.MAX_SAFE_INTEGER, "sizeBytes");
    if (this.tree.find(path) !== undefined) throw alreadyExists(path);
    this.tree.makeDirectory(parentOf(path), 0);
    const node: FileNode = {
      kind: "block",
      content: new Content(options.sizeBytes, true),
      physicalBlockBytes: options.physicalBlockBytes ?? 512,
      logicalBlockBytes: options.logicalBlockBytes ?? 512,
      modifiedMs: 0,
      lock: undefined,
      database: undefined,
    };
    this.tree.add(path, node, 0);
    this.tree.syncDirectory(this.tree.directory(parentOf(path)), this.tree.mark);
  }

  resizeBlockDevice(path: string, sizeBytes: number): void {
    const node = this.tree.file(path);
    if (node.kind !== "block") throw new WalbError("usage", { what: "not a block device", where: { file: path } });
    node.content.resizeDevice(sizeBytes);
  }

  inject(fault: DiskFault): () => void {
    return this.faults.add(fault);
  }

  corrupt(path: string, offsetBytes: number, sizeBytes: number): void {
    const node = this.tree.file(path);
    if (node.database !== undefined) node.database.isDamaged = true;
    const inside = Math.min(sizeBytes, node.content.sizeBytes - offsetBytes);
    if (inside <= 0) return;
    const bytes = this.peek(path, offsetBytes, inside);
    for (let i = 0; i < bytes.length; i++) bytes[i] = ~bytes[i]! & 0xff;
    node.content.poke(offsetBytes, bytes);
  }

  peek(path: string, offsetBytes: number, sizeBytes: number): Uint8Array {
    const bytes = new Uint8Array(sizeBytes);
    this.tree.file(path).content.read(offsetBytes, bytes);
    return bytes;
  }

  poke(path: string, offsetBytes: number, bytes: Uint8Array): void {
    this.tree.file(path).content.poke(offsetBytes, bytes);
  }

  paths(): string[] {
    return this.tree.files().map((file) => file.path);
  }

  sizeOf(path: string): number | undefined {
    const node = this.tree.find(path);
    return node === undefined || node.kind === "directory" ? undefined : node.content.sizeBytes;
  }

  setCapacity(capacityBytes: number): void {
    this.capacityBytes = capacityBytes;
  }

  private freeBytes(): number {
    const nodes = new Set<FileNode>(this.handles.values());
    for (const { node } of this.tree.files()) nodes.add(node);
    let usedBytes = 0;
    for (const node of nodes) if (node.kind === "file") usedBytes += node.content.chargedBytes;
    return Math.max(0, this.capacityBytes - usedBytes);
  }

  private delayOf(request: OperationRequest): DelayRange {
    if (request.kind === "read") return this.delays.read;
    if (request.kind === "write" || request.kind === "zero") return this.delays.write;
    if (request.kind === "sync" || request.kind === "syncDirectory") return this.delays.sync;
    return this.delays.metadata;
  }

  private landInFlight(process: SimProcess, random: SimRandom): void {
    const begun = [...this.inFlight].filter((entry) => entry.process === process);
    for (const entry of begun) {
      this.inFlight.delete(entry);
      if (!random.chance(0.5)) continue;
      try {
        entry.land();
      } catch (error) {
        // What could not have succeeded has no effect; a defect of the simulator must not hide here.
        if (!(error instanceof WalbError) || error.code === "internal") throw error;
      }
    }
  }
}
