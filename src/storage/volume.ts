/** @module One volume of a storage: its device, what it remembers, its state, and snapshots of it. */
import type { Logger } from "../control/logger.ts";
import type { DeviceInfo, DeviceStatus, WalbDevice } from "../device/device.ts";
import { type ErrorCode, WalbError } from "../errors.ts";
import type { Platform } from "../platform/platform.ts";
import { type LogPoint, nextPoint } from "../snapshot/split.ts";
import { mib } from "../units.ts";
import { VolumeMachine } from "../volume/machine.ts";
import type { Trouble } from "../volume/trouble.ts";
import type { StorageSettings } from "./settings.ts";
import type { StorageStore } from "./store.ts";
import { storageWayOut } from "./way-out.ts";

/** All states of a storage volume, temporary ones included. */
export type StorageState =
  | "SyncReady"
  | "Stopped"
  | "Target"
  | "Standby"
  | "FullSync"
  | "HashSync"
  | "StartTarget"
  | "StopTarget"
  | "StartStandby"
  | "StopStandby"
  | "Reset"
  | "SetDevice"
  | "ClearVol";
/** Actions that run beside a state. */
export type StorageAction = "WlogSend" | "WlogRemove";

/** How long a snapshot waits until the device has synced its log, and how often it looks. */
const flushWaitMsMax = 20_000;
const flushPollMs = 20;

/** What no other host can mend. */
const lastingCodes: readonly ErrorCode[] = ["log-overflow", "different-uuid", "damaged", "bad-format", "read-only"];

/** Transfers are not made smaller than this for proxies without room; where that may be needed, snapshots leave gids for it. */
const roomBytesMin = 2 * mib;

/** A volume of a running storage. */
export class StorageVolume {
  readonly machine: VolumeMachine<StorageState, StorageAction>;
  readonly log: Logger;
  trouble: Trouble | undefined;
  /** Wall clock of the last transfer that a proxy acknowledged. */
  lastSentMs: number | undefined;
  /** Wall clock of when the log was last seen with nothing to deliver: what waits was written since. */
  caughtUpMs = 0;
  /** Bytes of log that proxies are believed to have room for. */
  #roomBytes = Number.POSITIVE_INFINITY;
  #pbs: { readonly logUuid: string; readonly pbsBytes: number } | undefined;
  /** Gids of snapshots of the clock that no proxy can have heard of; those of before a restart are not known to be. */
  #unheard = new Set<bigint>();
  /** Since when the device is known not to be well, or not to answer; wall clock. */
  deviceTroubleSinceMs: number | undefined;
  /** A proxy that was offered log and has not accepted it yet, and since when (wall clock). */
  asking: { readonly host: string; readonly sinceMs: number } | undefined;
  /** How far the backup under way is. */
  backupProgress: { readonly doneBytes: number; readonly totalBytes: number } | undefined;
  /** Gives up the backup under way, when one is. */
  cancelBackup: ((reason: WalbError) => void) | undefined;

  constructor(
    readonly name: string,
    /** Of what is remembered of it. */
    readonly directory: string,
    readonly store: StorageStore,
    readonly device: WalbDevice,
    readonly platform: Platform,
    readonly settings: StorageSettings,
    log: Logger,
  ) {
    this.log = log.with({ volume: name });
    this.machine = new VolumeMachine<StorageState, StorageAction>(
      name,
      store.state,
      () => platform.clock.nowMs(),
      (state, needed) => storageWayOut(name, settings.nodeId, state, needed),
    );
  }

  /** Somebody learned where the log ends. A snapshot that waits is to be delivered although nothing was written since. */
  noteLatest(latestLsid: number): void {
    const isAllSent = latestLsid <= (this.store.done?.lsid ?? -1) && this.store.queue.length === 0;
    if (isAllSent) this.caughtUpMs = this.platform.clock.nowMs();
  }

  /** Nothing waited to be delivered until so long ago. */
  noteCaughtUp(agoMs: number): void {
    this.caughtUpMs = Math.max(this.caughtUpMs, this.platform.clock.nowMs() - agoMs);
  }

  /** PB of the largest transfer, for this volume's block size; less while proxies have no room for that. */
  maxPb(pbsBytes: number): number {
    const { wlogSendBytesMax } = this.settings;
    return Math.max(1, Math.floor(Math.min(wlogSendBytesMax, this.#roomBytes) / pbsBytes));
  }

  /** Proxies had no room for so much log: the next transfer is half of it. */
  noteNoRoom(logBytes: number): void {
    this.#roomBytes = Math.max(roomBytesMin, Math.floor(Math.min(this.#roomBytes, logBytes) / 2));
  }

  /** More of the log may go at once again: a transfer went well, or a pack is larger than what was tried. */
  noteRoom(): void {
    this.#roomBytes =
      this.#roomBytes >= this.settings.wlogSendBytesMax ? Number.POSITIVE_INFINITY : 2 * this.#roomBytes;
  }

  /** A proxy is told of a point from now on. */
  noteHeard(gid: bigint): void {
    this.#unheard.delete(gid);
  }

  /**
   * Forgets a snapshot of the clock whose log goes only as a whole, when no proxy has room for that and none has heard of
   * it: the next one leaves gids for cuts.
   */
  forgetUncuttable({ gid }: LogPoint): boolean {
    const [oldest, ...others] = this.store.queue;
    if (oldest?.gid !== gid || !this.#unheard.delete(gid)) return false;
    this.store.setQueue(others);
    return true;
  }

  /**
   * PB of log for which a snapshot leaves a gid: the largest transfer, so that all of it can be cut. Where log has piled up
   * there may be no room for as much any more, and less is used; what somebody asked for has the usual gids whenever it can.
   */
  #gidPb(pbsBytes: number, pendingPb: number, isMergeable: boolean): number {
    const maxPb = this.maxPb(pbsBytes);
    const isPiledUp = this.trouble !== undefined || (isMergeable && pendingPb > maxPb);
    return isPiledUp ? Math.max(1, Math.min(maxPb, Math.floor(roomBytesMin / pbsBytes))) : maxPb;
  }

  /**
   * State of the device, after checking that its log is still the one we follow.
   * @throws WalbError `different-uuid` when somebody else reset the log.
   */
  async deviceStatus(): Promise<DeviceStatus> {
    const status = await this.device.status();
    this.#checkUuid(status.uuid);
    return status;
  }

  /** The device, with the same check. @throws WalbError `different-uuid`. */
  async deviceInfo(): Promise<DeviceInfo> {
    const info = await this.device.info();
    this.#checkUuid(info.uuid);
    return info;
  }

  /** Block size of a log, by its uuid: asked for once, since an idle volume is looked at again and again. */
  async pbsBytes(logUuid: string): Promise<number> {
    if (this.#pbs?.logUuid !== logUuid) {
      const { uuid, pbsBytes } = await this.deviceInfo();
      this.#pbs = { logUuid: uuid, pbsBytes };
    }
    return this.#pbs.pbsBytes;
  }

  #checkUuid(uuid: string): void {
    if (this.#isOtherLog(uuid)) throw this.#otherLogError();
  }

  #isOtherLog(uuid: string): boolean {
    return this.store.logUuid !== undefined && uuid !== this.store.logUuid;
  }

  #otherLogError(): WalbError {
    const at = `${this.name} --server ${this.settings.nodeId}`;
    return new WalbError("different-uuid", {
      what: "the log of the device was reset by somebody else, so writes may be missing",
      where: { volume: this.name },
      hint: `take a new backup: walb stop ${at}; walb reset ${at}; walb backup ${this.name}`,
    });
  }

  /** Seconds since 1970, for snapshots. */
  nowS(): number {
    return Math.floor(this.platform.clock.nowMs() / 1000);
  }

  /** What must have been reset once before anything can be sent. */
  requireDone(): LogPoint {
    const done = this.store.done;
    if (done !== undefined) return done;
    throw new WalbError("state", {
      what: "the volume has never been backed up",
      where: { volume: this.name },
      hint: `take a backup: walb backup ${this.name}`,
    });
  }

  /**
   * Remembers the end of the log as a snapshot, durably, before it answers. The log is durable up to there by then: what
   * a power loss takes away behind it must not belong to a snapshot.
   * @param isMergeable false when somebody asked for it: then all is in it that was written before.
   */
  async takeSnapshot(isMergeable: boolean): Promise<LogPoint> {
    const info = await this.deviceInfo();
    const { lsids } = await this.#statusForSnapshot();
    const endLsid = isMergeable ? lsids.permanent : lsids.latest;
    await this.#untilPermanent(endLsid);
    const done = this.requireDone();
    // Another snapshot may have been taken since the device answered: never go back behind it.
    const before = this.store.queue.at(-1) ?? done;
    const lsid = Math.max(endLsid, before.lsid);
    const next = nextPoint(done, this.store.queue, lsid, {
      isMergeable,
      timestampS: this.nowS(),
      maxPb: this.#gidPb(info.pbsBytes, lsid - before.lsid, isMergeable),
    });
    // A log that begins behind an older point of the archive must not give a gid to another moment than before.
    const point = { ...next, gid: bigger(next.gid, this.store.unusedGid) };
    this.noteLatest(lsid);
    this.store.push(point);
    const queued = new Set(this.store.queue.map(({ gid }) => gid));
    this.#unheard = new Set([...this.#unheard].filter((gid) => queued.has(gid)));
    if (isMergeable) this.#unheard.add(point.gid);
    return point;
  }

  async #statusForSnapshot(): Promise<DeviceStatus> {
    const status = await this.deviceStatus();
    if (status.isOverflow) throw this.overflowError();
    return status;
  }

  async #untilPermanent(endLsid: number): Promise<void> {
    const { clock } = this.platform;
    const limitMs = clock.monotonicMs() + flushWaitMsMax;
    for (;;) {
      const { lsids, readOnlyReason } = await this.#statusForSnapshot();
      if (lsids.permanent >= endLsid) return;
      if (readOnlyReason !== undefined) throw this.#readOnlyError(readOnlyReason);
      if (clock.monotonicMs() > limitMs) {
        throw new WalbError("timed-out", {
          what: `the device did not make its log durable within ${flushWaitMsMax} ms`,
          where: { volume: this.name },
          hint: "look at the disk of its log",
        });
      }
      await clock.sleep(flushPollMs);
    }
  }

  /** Starts the log afresh: nothing is pending, the gid given is delivered. The caller holds a transition. */
  async resetLog(gid: bigint): Promise<void> {
    const { uuid } = await this.device.resetLog();
    this.store.reset(uuid, gid, this.nowS());
  }

  overflowError(): WalbError {
    return new WalbError("log-overflow", {
      what: "the log overflowed before it could be shipped, so some writes were never sent",
      where: { volume: this.name },
      hint:
        `take a new backup: walb reset ${this.name} --server ${this.settings.nodeId}, then walb backup ${this.name}; ` +
        "what the archive has stays restorable; give the device a larger log",
    });
  }

  /** What is wrong with a device that answers; no transfer has to fail of it. */
  deviceError({ uuid, readOnlyReason }: DeviceStatus): WalbError | undefined {
    const follows = this.machine.state === "Target" || this.machine.state === "Stopped";
    if (follows && this.#isOtherLog(uuid)) return this.#otherLogError();
    return readOnlyReason === undefined ? undefined : this.#readOnlyError(readOnlyReason);
  }

  /** The device refuses writes; what of its log was not durable by then never will be. */
  #readOnlyError(reason: string): WalbError {
    return new WalbError("read-only", {
      what: `the device takes no more writes: ${reason}`,
      where: { volume: this.name },
      hint: `look at the disks of its log and data; the next step, on its host: walb device show ${this.device.name}`,
    });
  }

  setTrouble(error: WalbError, retryAtMs?: number): void {
    const atMs = this.platform.clock.nowMs();
    const sinceMs = this.trouble?.sinceMs ?? atMs;
    this.trouble = { error: error.at({ volume: this.name }), atMs, sinceMs, retryAtMs };
  }

  clearTrouble(): void {
    this.trouble = undefined;
  }

  /** Forgets what was wrong with the way to others: it is not gone any more. What is wrong with the log stays so. */
  clearPassingTrouble(): void {
    if (this.trouble !== undefined && !lastingCodes.includes(this.trouble.error.code)) this.clearTrouble();
  }
}

function bigger(a: bigint, b: bigint): bigint {
  return a > b ? a : b;
}
