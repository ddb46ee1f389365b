/**
 * @module Writes to the volume over NBD, and knows what of it must survive: what was answered outlives a process, what
 * was flushed outlives a power loss, the rest may be there or not, but always as a prefix in log order.
 */
import type { SimRandom, SimWorld } from "../api.ts";
import type { VolumeModel } from "./model.ts";
import { enospc, NbdClient, type NbdReply, nbdFlush, nbdRead, nbdTrim, nbdWrite, nbdWriteZeroes } from "./nbd.ts";
import { type Node, sleep } from "./node.ts";
import { deviceName, nbdSocket, type Source } from "./site.ts";

const lb = 512;

/** The one writer of the volume. */
export class Writer {
  /** Set while nothing may be written. */
  isPaused = false;
  isStopped = false;
  /** Requests under way. */
  inFlight = 0;
  /** All writes before this are answered by themselves or by a later one. */
  ackedCount = 0;
  /** All writes before this survive a power loss. */
  durableCount = 0;
  /** The device takes no writes any more: its host must be started again. */
  isDeviceBroken = false;
  refusedCount = 0;
  #client: NbdClient | undefined;
  #incarnation = 0;
  #hasAgreed = false;
  #powerLossesSeen = 0;
  readonly #random: SimRandom;

  constructor(
    private readonly world: SimWorld,
    private readonly node: Node<Source>,
    readonly model: VolumeModel,
    private readonly writeBytesMax: number,
    private readonly writeCountMax: number,
  ) {
    this.#random = world.random.fork("writer");
  }

  /** Connected and in agreement with the device. */
  get isReady(): boolean {
    return this.#hasAgreed && this.#isConnected;
  }

  get #isConnected(): boolean {
    return this.#client !== undefined && !this.#client.isLost && this.node.host.incarnation === this.#incarnation;
  }

  /** Until stopped. @throws when the device does not hold what it must. */
  async run(): Promise<void> {
    const random = this.#random;
    while (!this.isStopped) {
      if (!(await this.connect())) {
        await sleep(this.world, 50);
        continue;
      }
      if (this.isPaused || this.isDeviceBroken || this.model.count >= this.writeCountMax) {
        await sleep(this.world, 20);
        continue;
      }
      await this.burst(random.between(1, random.chance(0.2) ? 24 : 6));
      if (random.chance(0.04) && this.isReady) await this.check();
      await sleep(this.world, random.chance(0.1) ? random.between(200, 2_000) : random.between(1, 120));
    }
  }

  /** Sends some writes at once and waits for all answers. */
  async burst(count: number): Promise<void> {
    const random = this.#random;
    const waiting: Promise<void>[] = [];
    for (let i = 0; i < count; i++) waiting.push(this.#write());
    if (random.chance(0.25)) waiting.push(this.flush());
    await this.#together(waiting);
  }

  async flush(): Promise<void> {
    const covered = this.ackedCount;
    const { incarnation } = this.node.host;
    const reply = await this.#request(nbdFlush, 0, 0);
    if (reply.kind === "lost") return;
    if (reply.error === 0 && incarnation === this.node.host.incarnation) {
      this.durableCount = Math.max(this.durableCount, covered);
    } else if (reply.error !== 0) this.isDeviceBroken = true;
  }

  /** Reads the whole volume: it must be what was written last. */
  async check(): Promise<void> {
    const reply = await this.#read();
    // What a broken device refused may be in its log or not: its next start tells.
    if (reply === undefined || this.inFlight > 0 || this.isDeviceBroken) return;
    const { count } = this.model;
    if (this.model.match(reply, count, count) === undefined) {
      throw new Error(`the device does not hold what was written: ${this.model.difference(reply, count)}`);
    }
  }

  /** Connects after a start of the host, and takes back from the model what is gone. */
  async connect(): Promise<boolean> {
    const { node } = this;
    if (this.isReady) return true;
    this.#hasAgreed = false;
    this.#client?.lose();
    this.#client = undefined;
    if (node.service === undefined || !node.host.isUp) return false;
    const { incarnation } = node.host;
    const outcome = await node.attempt(() => NbdClient.open(node.host.platform.net, nbdSocket, deviceName), 20_000);
    if (outcome.kind !== "done") {
      // A device that cannot be opened (a disk error at its start) needs another start.
      if (outcome.kind !== "down") this.isDeviceBroken = true;
      return false;
    }
    this.#client = outcome.value;
    this.#incarnation = incarnation;
    return this.#agree();
  }

  async #agree(): Promise<boolean> {
    const image = await this.#read();
    if (image === undefined) {
      this.#client?.lose();
      return false;
    }
    const { model, node } = this;
    const isPowerLoss = node.powerLossCount > this.#powerLossesSeen;
    const from = isPowerLoss ? this.durableCount : this.ackedCount;
    const match = model.match(image, from);
    if (match === undefined) {
      const older = model.match(image);
      const what = isPowerLoss ? "flushed" : "answered";
      const how =
        older === undefined
          ? `it is no state of the volume: ${model.difference(image, model.count)}`
          : `it is the state after ${older.last}, so ${from - older.last} ${what} writes are lost`;
      throw new Error(
        `after a restart with ${model.count} writes, ${from} of them ${what}, the device is wrong: ${how}`,
      );
    }
    this.#powerLossesSeen = node.powerLossCount;
    this.world.note(`writer agrees on ${match.last} of ${model.count} writes, at least ${from}`);
    model.truncate(match.last);
    this.ackedCount = match.last;
    this.durableCount = Math.min(this.durableCount, match.last);
    this.inFlight = 0;
    this.isDeviceBroken = false;
    this.#hasAgreed = true;
    return true;
  }

  async #read(): Promise<Uint8Array | undefined> {
    const reply = await this.#guard(this.#request(nbdRead, 0, this.model.sizeLb * lb));
    if (reply === undefined || reply.kind === "lost") return undefined;
    if (reply.error !== 0) {
      this.isDeviceBroken = true;
      return undefined;
    }
    return reply.data;
  }

  async #write(): Promise<void> {
    const random = this.#random;
    const mostLb = Math.min(this.writeBytesMax / lb, this.model.sizeLb);
    const wantedLb = random.chance(0.08) ? random.between(32, 512) : random.between(1, 24);
    const sizeLb = Math.min(mostLb, wantedLb);
    // Some blocks are written again and again.
    const room = this.model.sizeLb - sizeLb;
    const offsetLb = random.chance(0.3) ? random.between(0, Math.min(64, room)) : random.between(0, room);
    const isFua = random.chance(0.05);
    const kind = random.chance(0.8) ? nbdWrite : random.pick([nbdTrim, nbdWriteZeroes]);
    const index = this.model.count;
    let payload: Uint8Array | undefined;
    if (kind === nbdWrite) payload = this.model.write(offsetLb, sizeLb);
    else this.model.zero(offsetLb, sizeLb);
    const options = payload === undefined ? { isFua } : { isFua, payload };
    const { incarnation } = this.node.host;
    this.inFlight += 1;
    const reply = await this.#request(kind, offsetLb * lb, sizeLb * lb, options);
    if (reply.kind === "lost" || incarnation !== this.node.host.incarnation) return;
    this.inFlight -= 1;
    if (reply.error === 0) {
      this.ackedCount = Math.max(this.ackedCount, index + 1);
      if (isFua) this.durableCount = Math.max(this.durableCount, index + 1);
    } else if (reply.error === enospc) {
      this.model.void(index);
      this.refusedCount += 1;
    } else {
      this.isDeviceBroken = true;
    }
  }

  #request(...[type, at, size, options]: Parameters<NbdClient["request"]>): Promise<NbdReply> {
    return this.#client?.request(type, at, size, options) ?? Promise.resolve({ kind: "lost" });
  }

  async #together(waiting: Promise<void>[]): Promise<void> {
    await this.#guard(Promise.all(waiting));
  }

  /** Waits for answers; when the host goes down they are all lost. */
  async #guard<T>(work: Promise<T>): Promise<T | undefined> {
    let outcome: { readonly value: T } | undefined;
    void work.then((value) => {
      outcome = { value };
    });
    let waitMs = 1;
    const endMs = this.world.nowMs() + 300_000;
    while (outcome === undefined) {
      await sleep(this.world, waitMs);
      waitMs = Math.min(10, waitMs * 2);
      if (this.node.host.incarnation !== this.#incarnation || !this.node.host.isUp) this.#client?.lose();
      if (this.world.nowMs() > endMs) throw new Error("the device does not answer for five minutes");
    }
    return outcome.value;
  }
}
