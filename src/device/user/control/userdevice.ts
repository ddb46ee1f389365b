/** @module A volume of a device daemon as a {@link WalbDevice}: reconnects when the daemon restarts. */
import { WalbError } from "../../../errors.ts";
import type { Timer } from "../../../platform/clock.ts";
import type { DiskFile } from "../../../platform/disk.ts";
import type { Platform } from "../../../platform/platform.ts";
import { lbBytes } from "../../../units.ts";
import type { DeviceInfo, DeviceStatus, WalbDevice } from "../../device.ts";
import { ControlChannel, daemonHint, daemonUnreachable } from "./channel.ts";
import type { Operation, OperationParams, OperationResult } from "./schema.ts";

/** Full scans read multiples of this. */
const scanBlockBytes = 4096;
const backOffMinMs = 50;
const backOffMaxMs = 5_000;
/** Watchers are called at most this often. */
const watchGapMs = 20;

/**
 * A volume of a device daemon as a {@link WalbDevice}. Never fails at once: it connects in the background and again with
 * back-off whenever the daemon goes away; calls fail with `unreachable` meanwhile and watchers are called when it is back.
 */
export function connectUserDevice(platform: Platform, socketPath: string, name: string): WalbDevice {
  return new UserDevice(platform, socketPath, name);
}

class UserDevice implements WalbDevice {
  private channel: ControlChannel | undefined;
  /** Set while an attempt to connect runs. */
  private attempt: Promise<void> | undefined;
  private lastError: WalbError | undefined;
  private delayMs = backOffMinMs;
  private retryTimer: Timer | undefined;
  private subscribeTimer: Timer | undefined;
  private isClosed = false;
  private readonly watchers = new Set<() => void>();
  private watchTimer: Timer | undefined;
  private lastToldMs = Number.NEGATIVE_INFINITY;

  constructor(
    private readonly platform: Platform,
    private readonly socketPath: string,
    readonly name: string,
  ) {
    this.connect();
  }

  info(): Promise<DeviceInfo> {
    return this.call("info", { name: this.name });
  }

  async status(): Promise<DeviceStatus> {
    const { lsids, isOverflow, readOnlyReason, uuid } = await this.call("status", { name: this.name });
    return { lsids, isOverflow, readOnlyReason, uuid };
  }

  async setOldest(lsid: number): Promise<void> {
    await this.call("setOldest", { name: this.name, lsid });
  }

  resetLog(): Promise<DeviceInfo> {
    return this.call("resetLog", { name: this.name });
  }

  async checkpoint(): Promise<void> {
    await this.call("checkpoint", { name: this.name });
  }

  resize(sizeLb: number): Promise<DeviceInfo> {
    return this.call("resize", { name: this.name, sizeBytes: sizeLb * lbBytes });
  }

  watch(changed: () => void): () => void {
    // Wrapped, so that the same function may watch twice and be taken away once.
    const watcher = (): void => changed();
    this.watchers.add(watcher);
    if (this.watchers.size === 1) this.subscribe("watch");
    return () => {
      if (this.watchers.delete(watcher) && this.watchers.size === 0) this.subscribe("unwatch");
    };
  }

  async openLog(): Promise<DiskFile> {
    const { logPath } = await this.info();
    // The daemon appends through the page cache: what is read soon after costs no access to the disk.
    return await this.platform.disk.open(logPath, { mode: "read" });
  }

  async openData(): Promise<DiskFile> {
    const { dataPath, sizeLb } = await this.info();
    return await this.openStore(dataPath, scanBlockBytes, sizeLb * lbBytes);
  }

  async close(): Promise<void> {
    this.isClosed = true;
    this.watchers.clear();
    this.watchTimer?.cancel();
    this.retryTimer?.cancel();
    this.subscribeTimer?.cancel();
    this.channel?.close();
    await this.attempt;
  }

  /** Direct I/O when its alignment fits the blocks a reader asks for and the end of the store, buffered otherwise. */
  private async openStore(path: string, blockBytes: number, endBytes: number): Promise<DiskFile> {
    const file = await this.platform.disk.open(path, { mode: "read", direct: true });
    if (blockBytes % file.alignmentBytes === 0 && endBytes % file.alignmentBytes === 0) return file;
    await file.close();
    return await this.platform.disk.open(path, { mode: "read" });
  }

  private async call<O extends Operation>(operation: O, params: OperationParams<O>): Promise<OperationResult<O>> {
    if (this.channel === undefined) await this.attempt;
    if (this.channel === undefined) throw this.unreachable();
    return await this.channel.call(operation, params);
  }

  private unreachable(): WalbError {
    if (this.isClosed) return new WalbError("state", { what: "the device is closed", where: { volume: this.name } });
    const known = this.lastError ?? this.gone();
    return new WalbError("unreachable", {
      what: known.what,
      where: { ...known.where, volume: this.name },
      hint: known.hint ?? daemonHint,
    });
  }

  private gone(): WalbError {
    const what = "the device daemon closed the connection";
    return new WalbError("unreachable", { what, where: { peer: this.socketPath }, hint: daemonHint });
  }

  private connect(): void {
    this.attempt = this.tryConnect().finally(() => {
      this.attempt = undefined;
    });
  }

  private async tryConnect(): Promise<void> {
    try {
      const channel = await ControlChannel.open(this.platform, this.socketPath, {
        changed: () => this.tell(),
        closed: () => this.lost(),
      });
      if (this.isClosed) {
        channel.close();
        return;
      }
      if (channel.isClosed) throw this.gone();
      this.channel = channel;
      this.delayMs = backOffMinMs;
      if (this.watchers.size > 0) {
        this.subscribe("watch");
        this.tell();
      }
    } catch (error) {
      this.lastError = daemonUnreachable(error, this.socketPath);
      this.retry();
    }
  }

  private lost(): void {
    // Also told for a channel that never got through its greeting: then the attempt itself fails and retries.
    if (this.channel === undefined) return;
    this.channel = undefined;
    this.lastError = this.gone();
    this.tell();
    this.retry();
  }

  private retry(): void {
    if (this.isClosed) return;
    const delayMs = this.delayMs * (0.75 + this.platform.random.fraction() / 2);
    this.delayMs = Math.min(backOffMaxMs, this.delayMs * 2);
    this.retryTimer = this.platform.clock.timer(delayMs, () => this.connect(), { unref: true });
  }

  /** Watching is refused while the volume is unknown, and asked for again until it is there. */
  private subscribe(operation: "watch" | "unwatch"): void {
    const channel = this.channel;
    this.subscribeTimer?.cancel();
    channel?.call(operation, { name: this.name }).then(
      () => {
        // What changed before the subscription was in force is told now.
        if (operation === "watch") this.tell();
      },
      (error: unknown) => {
        this.lastError = daemonUnreachable(error, this.socketPath);
        if (this.isClosed || this.channel !== channel || this.watchers.size === 0) return;
        this.subscribeTimer = this.platform.clock.timer(backOffMaxMs, () => this.subscribe("watch"), { unref: true });
      },
    );
  }

  private tell(): void {
    if (this.isClosed || this.watchTimer !== undefined) return;
    const dueMs = this.lastToldMs + watchGapMs - this.platform.clock.monotonicMs();
    this.watchTimer = this.platform.clock.timer(Math.max(0, dueMs), () => {
      this.watchTimer = undefined;
      this.lastToldMs = this.platform.clock.monotonicMs();
      for (const watcher of this.watchers) watcher();
    });
  }
}
