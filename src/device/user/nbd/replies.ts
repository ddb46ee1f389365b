/** @module Replies of a connection, gathered so that many small ones leave in one write. */
import type { Lease } from "../../../native/memory.ts";
import type { RunningSync } from "../../../platform/disk.ts";
import type { Connection, Entrusted } from "../../../platform/net.ts";
import type { AllocationExtent } from "../block.ts";
import {
  allocationContextId,
  chunkDone,
  chunkHeaderBytes,
  chunkTypes,
  putU16,
  putU32,
  putU64,
  simpleReplyBytes,
  simpleReplyMagic,
  statusHoleZero,
  structuredReplyMagic,
} from "./protocol.ts";

const stagingBytes = 128 * 1024;
/** Read data up to this size is copied behind its header; larger data is sent from the lease. */
const copyMaxBytes = 16 * 1024;

/** Opaque 64-bit handle of a request. */
export interface Handle {
  readonly handleHigh: number;
  readonly handleLow: number;
}

/** Encodes replies and hands them to the socket at the end of the current turn. */
export class ReplyWriter {
  private readonly staging = new Uint8Array(stagingBytes);
  private readonly entrusted = new Uint8Array(simpleReplyBytes);
  private used = 0;
  private isScheduled = false;
  private isClosed = false;
  /** Replies sent without a copy: done, and not yet taken by the socket. */
  sentCount = 0;
  unsentCount = 0;

  constructor(
    private readonly connection: Connection,
    private readonly isStructured: boolean,
    /** Told when the socket's queue is above its high mark, and when data is sent without a copy. */
    private readonly host: { outputFull(): void; watchStall(): void },
  ) {}

  /** A reply without data: success or an error number. */
  simple(request: Handle, error: number): void {
    putSimple(this.staging, this.reserve(simpleReplyBytes), request, error);
  }

  /** Leaves a reply of success to a sync, where that is possible: then it goes out only if that succeeds. */
  entrust(request: Handle, sync: RunningSync): Entrusted | undefined {
    if (this.isClosed || this.connection.entrust === undefined) return undefined;
    this.flush();
    putSimple(this.entrusted, 0, request, 0);
    return this.connection.entrust(this.entrusted, sync);
  }

  /** A failure of a command whose answer carries data. */
  failure(request: Handle, error: number, why: string): void {
    if (!this.isStructured) {
      this.simple(request, error);
      return;
    }
    const message = new TextEncoder().encode(why.slice(0, 512));
    const at = this.chunk(request, chunkTypes.error, 6 + message.length, 6 + message.length);
    putU32(this.staging, at, error);
    putU16(this.staging, at + 4, message.length);
    this.staging.set(message, at + 6);
  }

  /** Read data; `sent` is called when the lease is no longer needed (it is released then). */
  data(request: Handle, offsetBytes: number, sizeBytes: number, lease: Lease, sent: () => void): void {
    const isCopied = sizeBytes <= copyMaxBytes;
    const copiedBytes = isCopied ? sizeBytes : 0;
    let at: number;
    if (this.isStructured) {
      at = this.chunk(request, chunkTypes.offsetData, 8 + sizeBytes, 8 + copiedBytes);
      putU64(this.staging, at, offsetBytes);
      at += 8;
    } else {
      at = this.reserve(simpleReplyBytes + copiedBytes) + simpleReplyBytes;
      putSimple(this.staging, at - simpleReplyBytes, request, 0);
    }
    const bytes = lease.sizeBytes === sizeBytes ? lease.bytes : lease.bytes.subarray(0, sizeBytes);
    if (isCopied) {
      this.staging.set(bytes, at);
      lease.release();
      sent();
      return;
    }
    const release = (): void => {
      this.unsentCount--;
      this.sentCount++;
      lease.release();
      sent();
    };
    this.flush();
    this.unsentCount++;
    this.host.watchStall();
    // A failed send means that the connection is gone: its reader is told why.
    this.connection.send(bytes).then(release, release);
  }

  /** The answer to BLOCK_STATUS: extents in order. */
  status(request: Handle, extents: readonly AllocationExtent[]): void {
    const payloadBytes = 4 + 8 * extents.length;
    const isStaged = payloadBytes <= copyMaxBytes;
    let at = this.chunk(request, chunkTypes.blockStatus, payloadBytes, isStaged ? payloadBytes : 0);
    const target = isStaged ? this.staging : new Uint8Array(payloadBytes);
    if (!isStaged) at = 0;
    putU32(target, at, allocationContextId);
    for (const extent of extents) {
      at += 8;
      putU32(target, at - 4, extent.sizeBytes);
      putU32(target, at, extent.isHole ? statusHoleZero : 0);
    }
    if (isStaged) return;
    this.flush();
    if (!this.connection.write(target)) this.host.outputFull();
  }

  /** Hands everything to the socket. */
  flush(): void {
    if (this.used === 0) return;
    const sizeBytes = this.used;
    this.used = 0;
    if (this.isClosed) return;
    if (!this.connection.write(this.staging.subarray(0, sizeBytes))) this.host.outputFull();
  }

  /** From now on replies are dropped: nobody hears them. */
  close(): void {
    this.isClosed = true;
    this.used = 0;
  }

  /** Starts a single, last chunk; returns where its payload goes, of which `stagedBytes` are in the staging area. */
  private chunk(request: Handle, type: number, payloadBytes: number, stagedBytes: number): number {
    const at = this.reserve(chunkHeaderBytes + stagedBytes);
    const { staging } = this;
    putU32(staging, at, structuredReplyMagic);
    putU16(staging, at + 4, chunkDone);
    putU16(staging, at + 6, type);
    putU32(staging, at + 8, request.handleHigh);
    putU32(staging, at + 12, request.handleLow);
    putU32(staging, at + 16, payloadBytes);
    return at + chunkHeaderBytes;
  }

  private reserve(sizeBytes: number): number {
    if (this.used + sizeBytes > stagingBytes) this.flush();
    const at = this.used;
    this.used += sizeBytes;
    if (!this.isScheduled) {
      this.isScheduled = true;
      queueMicrotask(() => {
        this.isScheduled = false;
        this.flush();
      });
    }
    return at;
  }
}

function putSimple(target: Uint8Array, at: number, { handleHigh, handleLow }: Handle, error: number): void {
  putU32(target, at, simpleReplyMagic);
  putU32(target, at + 4, error);
  putU32(target, at + 8, handleHigh);
  putU32(target, at + 12, handleLow);
}
