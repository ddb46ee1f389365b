/** @module The engine itself: requests come in, the parts do the work, control steers. */
import { assert, type WalbError } from "../../../errors.ts";
import { ceilPb, maxDiscardLb } from "../../../log/geometry.ts";
import type { Lease, Memory } from "../../../native/memory.ts";
import type { DiskFile } from "../../../platform/disk.ts";
import { lbBytes } from "../../../units.ts";
import type { DeviceInfo, DeviceStatus } from "../../device.ts";
import type { AllocationExtent, Done, LeaveAnswer } from "../block.ts";
import { LogAppender } from "./appender.ts";
import { Applier } from "./applier.ts";
import { Checkpointer } from "./checkpointer.ts";
import { eraseLog, growVolume, infoOf, startLogAfresh } from "./control.ts";
import type { EngineCore, PendingWrite, WriteRequest } from "./core.ts";
import { Hold } from "./hold.ts";
import { cutRequest, maxPieceLbOf } from "./packer.ts";
import { LogPreparer } from "./preparer.ts";
import { readVolume, volumeAllocation } from "./reads.ts";
import { closedError, refuseSoon, stateError } from "./refusals.ts";
import { LogSyncer } from "./syncer.ts";
import type { EngineCounters, WriteAheadEngine } from "./volume.ts";
import { Watchers } from "./watchers.ts";

export class Engine implements WriteAheadEngine {
  readonly #core: EngineCore;
  readonly #appender: LogAppender;
  readonly #syncer: LogSyncer;
  readonly #applier: Applier;
  readonly #checkpointer: Checkpointer;
  readonly #hold: Hold;
  readonly #watchers: Watchers;
  #preparer: LogPreparer;
  readonly #lease: Lease;
  #maxPieceLb: number;
  /** Packing waits for a checkpoint. */
  #isRingFull = false;
  #isClosing = false;
  #closed: Promise<void> | undefined;
  #requestsInFlight = 0;

  /** `lease` is what `core.memory` was cut from. */
  constructor(core: EngineCore, lease: Lease) {
    this.#core = core;
    this.#lease = lease;
    this.#maxPieceLb = maxPieceLbOf(core);
    this.#watchers = new Watchers(core.parts.clock);
    this.#checkpointer = new Checkpointer(core, () => {
      this.#isRingFull = false;
      this.#appender.kick();
    });
    this.#applier = new Applier(core, () => {
      this.#checkpointer.noteWritten();
      if (this.#isRingFull) this.#checkpointer.request();
    });
    this.#syncer = new LogSyncer(core, () => {
      this.#applier.notePermanent();
      this.#appender.kick();
      this.#preparer.noteSync();
    });
    this.#appender = new LogAppender(core, core.memory.slots, {
      started: (write) => this.#applier.add(write),
      completed: (write) => this.#completed(write),
      advanced: () => this.#syncer.noteBatch(),
      beginSynced: () => this.#syncer.beginByWrite(),
      synced: () => this.#syncer.endByWrite(),
      stalled: (stall) => {
        this.#isRingFull = stall === "ring";
        if (stall !== "ring" && stall !== "unsynced") return;
        this.#syncer.request();
        if (stall !== "ring") return;
        this.#applier.request();
        this.#checkpointer.request();
      },
    });
    this.#preparer = new LogPreparer(core, () => this.#appender.kick());
    this.#hold = new Hold(core.parts.clock, this.#appender, this.#checkpointer);
    core.onFailure = (error) => {
      this.#appender.abandon();
      this.#syncer.abandon(error);
      this.#applier.abandon();
      core.releaseRoomWaiters();
    };
    core.onEvent = () => this.#watchers.notify();
  }

  get name(): string {
    return this.#core.settings.name;
  }

  get sizeBytes(): number {
    return this.#core.superblock.deviceSizeLb * lbBytes;
  }

  get preferredBlockBytes(): number {
    return this.#core.ring.pbsBytes;
  }

  get readOnlyReason(): string | undefined {
    return this.#core.failure?.message;
  }

  get failure(): WalbError | undefined {
    return this.#core.failure;
  }

  get counters(): EngineCounters {
    return { ...this.#core.counters, pendingBytes: this.#core.pendingBytes };
  }

  get isFrozen(): boolean {
    return this.#hold.isFrozen;
  }

  get checkpointIntervalMs(): number {
    return this.#checkpointer.intervalMs;
  }

  set checkpointIntervalMs(intervalMs: number) {
    this.#checkpointer.intervalMs = intervalMs;
  }

  get roomBytes(): number {
    return Math.max(0, this.#core.roomBytes);
  }

  onRoom(callback: () => void): void {
    this.#core.onRoom(callback);
  }

  read(offsetBytes: number, target: Memory, done: Done): void {
    this.#checkPlace(offsetBytes, target.sizeBytes);
    if (this.#isClosing) {
      refuseSoon(done, closedError(this.name));
      return;
    }
    this.#core.counters.readCount += 1;
    this.#core.counters.readBytes += target.sizeBytes;
    readVolume(this.#core, offsetBytes, target, this.#counted(done));
  }

  write(
    offsetBytes: number,
    sizeBytes: number,
    source: Lease,
    fua: boolean,
    done: Done,
    leaveAnswer?: LeaveAnswer,
  ): void {
    this.#checkPlace(offsetBytes, sizeBytes);
    const { pbsBytes } = this.#core.ring;
    const spaceBytes = ceilPb(sizeBytes / lbBytes, pbsBytes) * pbsBytes;
    assert(source.sizeBytes >= spaceBytes, "the memory of a write holds whole blocks");
    // The slack of the last block would else bring old memory into the log.
    if (spaceBytes > sizeBytes) source.bytes.fill(0, sizeBytes, spaceBytes);
    this.#submit("data", offsetBytes, sizeBytes, source, fua, done, leaveAnswer);
  }

  writeZeroes(offsetBytes: number, sizeBytes: number, fua: boolean, done: Done): void {
    this.#checkPlace(offsetBytes, sizeBytes);
    this.#submit("zeroes", offsetBytes, sizeBytes, undefined, fua, done);
  }

  discard(offsetBytes: number, sizeBytes: number, fua: boolean, done: Done): void {
    this.#checkPlace(offsetBytes, sizeBytes);
    this.#submit("discard", offsetBytes, sizeBytes, undefined, fua, done);
  }

  flush(done: Done, leaveAnswer?: LeaveAnswer): void {
    if (this.#isClosing) {
      refuseSoon(done, closedError(this.name));
      return;
    }
    this.#core.counters.flushCount += 1;
    this.#syncer.wait(this.#counted(done), leaveAnswer);
  }

  allocation(offsetBytes: number, sizeBytes: number): Promise<AllocationExtent[]> {
    this.#checkPlace(offsetBytes, sizeBytes);
    return volumeAllocation(this.#core, offsetBytes, sizeBytes);
  }

  deviceInfo(): DeviceInfo {
    return infoOf(this.#core);
  }

  deviceStatus(): DeviceStatus {
    const { lsids, isOverflow, superblock } = this.#core;
    return { lsids: { ...lsids }, isOverflow, readOnlyReason: this.readOnlyReason, uuid: superblock.uuid };
  }

  info(): Promise<DeviceInfo> {
    return Promise.resolve(this.deviceInfo());
  }

  status(): Promise<DeviceStatus> {
    return Promise.resolve(this.deviceStatus());
  }

  watch(changed: () => void): () => void {
    return this.#watchers.add(changed);
  }

  openLog(): Promise<DiskFile> {
    return this.#core.parts.disk.open(this.#core.log.path, { mode: "read" });
  }

  openData(): Promise<DiskFile> {
    return this.#core.parts.disk.open(this.#core.data.path, { mode: "read" });
  }

  setOldest(lsid: number): Promise<void> {
    return this.#checkpointer.exclusive(() => eraseLog(this.#core, this.#checkpointer, lsid));
  }

  async checkpoint(): Promise<void> {
    const core = this.#core;
    this.#checkOpen();
    const target = core.lsids.completed;
    this.#syncer.request();
    this.#applier.request();
    await core.until(() => core.lsids.written >= target);
    await this.#checkpointer.exclusive(() => this.#checkpointer.save({}));
  }

  async freeze(options: { readonly timeoutMs?: number } = {}): Promise<void> {
    this.#checkOpen();
    this.#hold.freeze(options.timeoutMs);
    // Behind a reset that is under way, which lets the lsids begin anew.
    await this.#checkpointer.exclusive(() => this.#drain());
  }

  melt(): void {
    this.#hold.melt();
  }

  resetLog(): Promise<DeviceInfo> {
    return this.#checkpointer.exclusive(async () => {
      this.#checkOpen();
      if (this.#hold.isFrozen) {
        const hint = `melt it: walb device melt ${this.name}`;
        throw stateError(this.name, "the log of a frozen device cannot be reset", hint);
      }
      const core = this.#core;
      await this.#hold.whileReset(async () => {
        await this.#drain();
        await this.#preparer.stop();
        await startLogAfresh(core);
        this.#maxPieceLb = maxPieceLbOf(core);
        this.#preparer = new LogPreparer(core, () => this.#appender.kick());
        this.#appender.logChanged();
        this.#applier.logChanged();
      });
      core.onEvent();
      return this.deviceInfo();
    });
  }

  resize(sizeLb: number): Promise<DeviceInfo> {
    return this.#checkpointer.exclusive(async () => {
      this.#checkOpen();
      await growVolume(this.#core, this.#checkpointer, sizeLb);
      this.#core.onEvent();
      return this.deviceInfo();
    });
  }

  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #close(): Promise<void> {
    const core = this.#core;
    this.melt();
    this.#isClosing = true;
    let failure: unknown;
    try {
      if (core.failure === undefined) {
        await core.until(() => this.#appender.queueLength === 0);
        await this.#checkpointer.exclusive(async () => {
          await this.#drain();
          await this.#checkpointer.save({});
        });
        await core.until(() => this.#requestsInFlight === 0);
      }
    } catch (error) {
      failure = error;
    }
    await this.#checkpointer.stop();
    await this.#preparer.stop();
    this.#syncer.abandon(closedError(this.name));
    this.#applier.abandon();
    this.#watchers.stop();
    // Jobs in flight use memory of this engine and of its callers: the files wait for them.
    await core.data.close();
    await core.log.close();
    this.#applier.release();
    this.#lease.release();
    if (failure !== undefined) throw failure;
  }

  /** Waits until all that is packed is on the data store; the appender must be held, or its queue empty. */
  async #drain(): Promise<void> {
    const core = this.#core;
    await core.until(() => this.#appender.isIdle);
    const target = core.lsids.latest;
    // Whoever melts the device meanwhile lets more be packed: what is asked for must cover the target at least.
    await core.until(() => core.lsids.completed >= target);
    this.#syncer.request();
    await core.until(() => core.lsids.permanent >= target);
    this.#applier.request();
    await core.until(() => core.lsids.written >= target);
  }

  #submit(
    kind: WriteRequest["kind"],
    offsetBytes: number,
    sizeBytes: number,
    source: Lease | undefined,
    isFua: boolean,
    done: Done,
    leaveAnswer?: LeaveAnswer,
  ): void {
    const core = this.#core;
    if (kind === "discard") {
      core.counters.discardCount += 1;
    } else {
      core.counters.writeCount += 1;
      core.counters.writeBytes += sizeBytes;
    }
    if (core.failure !== undefined || this.#isClosing) {
      source?.release();
      refuseSoon(done, core.failure === undefined ? closedError(this.name) : core.refusal());
      return;
    }
    const sizeLb = sizeBytes / lbBytes;
    const pieceLb = kind === "discard" ? maxDiscardLb : this.#maxPieceLb;
    const pieceCount = Math.ceil(sizeLb / pieceLb);
    const request: WriteRequest = {
      kind,
      sizeLb,
      source,
      isFua,
      done: this.#counted(done),
      leaveAnswer,
      pieceCount,
      isAdmitted: false,
      unloggedCount: pieceCount,
      unappliedCount: pieceCount,
      error: undefined,
    };
    core.admit(request);
    cutRequest(request, offsetBytes / lbBytes, pieceLb, core.ring.pbsBytes, (write) => this.#appender.push(write));
    if (core.isPressed) this.#applier.notePermanent();
  }

  #completed(write: PendingWrite): void {
    const core = this.#core;
    core.overlay.set(write.offsetLb, write.offsetLb + write.sizeLb, write);
    if (!core.noteLogged(write)) return;
    const { request } = write;
    if (request.isFua && request.error === undefined) this.#syncer.wait(request.done, request.leaveAnswer);
    else request.done(request.error);
  }

  #counted(done: Done): Done {
    this.#requestsInFlight += 1;
    return (error) => {
      this.#requestsInFlight -= 1;
      done(error);
      if (this.#isClosing) this.#core.wake();
    };
  }

  #checkPlace(offsetBytes: number, sizeBytes: number): void {
    assert(
      offsetBytes >= 0 && sizeBytes > 0 && offsetBytes % lbBytes === 0 && sizeBytes % lbBytes === 0,
      "requests are whole blocks",
    );
    assert(offsetBytes + sizeBytes <= this.sizeBytes, "requests lie inside the volume");
  }

  #checkOpen(): void {
    if (this.#isClosing) throw closedError(this.name);
    if (this.#core.failure !== undefined) throw this.#core.refusal();
  }
}
