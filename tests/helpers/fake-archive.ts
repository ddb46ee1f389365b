/** @module An archive for tests: the server halves of the wire, and an image that is a byte array. */
import { RecordKind } from "../../src/diff/types.ts";
import { Codec } from "../../src/native/codec.ts";
import type { Memory } from "../../src/native/memory.ts";
import type { Address } from "../../src/platform/net.ts";
import type { Platform } from "../../src/platform/platform.ts";
import { apply, relation } from "../../src/snapshot/algebra.ts";
import { type DiffMeta, gidMax, isClean, type Snapshot } from "../../src/snapshot/types.ts";
import { type FullSyncServer, serveFullSync } from "../../src/wire/full-sync.ts";
import { hashSeed, serveHashSync } from "../../src/wire/hash-sync.ts";
import { serveLatestSnap } from "../../src/wire/latest-snap.ts";
import type { LatestSnapshot } from "../../src/wire/meta.ts";
import type { PackSink, ReceivedPack } from "../../src/wire/pack-stream.ts";
import { serveWire, type WireServer } from "../../src/wire/server.ts";
import type { WireStream } from "../../src/wire/stream.ts";
import { serveWdiffTransfer, type WdiffRequest } from "../../src/wire/wdiff-transfer.ts";
import { accept, type Decision, refuse, refuseWith } from "../../src/wire/words.ts";

interface StagedWrite {
  readonly offsetBytes: number;
  /** Undefined: zeroes. */
  readonly bytes: Uint8Array | undefined;
  readonly sizeBytes: number;
}

/** One volume at an archive. Lives outside of every simulated process: nothing it acknowledged is ever lost. */
export class FakeArchive {
  image: Uint8Array = new Uint8Array(0);
  state: "SyncReady" | "FullSync" | "HashSync" | "Archived" = "SyncReady";
  uuid = "";
  latest: Snapshot = { gidB: 0n, gidE: 0n };
  /** Diffs that were applied, in order. */
  readonly applied: DiffMeta[] = [];
  /** Packs of hash backups. */
  readonly packs: { readonly bytes: number; readonly records: number }[] = [];
  /** Requests for diffs, in order, with the answers. */
  readonly asked: { readonly request: WdiffRequest; readonly decision: Decision }[] = [];
  /** Answers instead of the rules, when it gives one. */
  answer: ((request: WdiffRequest) => Decision | undefined) | undefined;
  /** Called when the image is that of a clean snapshot. */
  onClean: ((gid: bigint, image: Uint8Array) => void) | undefined;
  /** Called at each step of a backup; may throw or never resolve. */
  onStep: ((step: "decide" | "begin" | "bulk" | "finish" | "commit") => void | Promise<void>) | undefined;
  /** Milliseconds that a diff takes before its Ack. */
  delayMs = 0;
  receiving = 0;

  /** Serves until shut down. */
  async open(platform: Platform, address: Address): Promise<WireServer> {
    return await serveWire(platform.net, address, {
      nodeId: "a0",
      clock: platform.clock,
      deadlineMs: 10_000,
      handlers: new Map([
        ["dirty-full-sync3", (stream: WireStream) => this.#fullSync(platform, stream)],
        ["dirty-hash-sync2", (stream: WireStream) => this.#hashSync(platform, stream)],
        [
          "gather-latest-snap",
          (stream: WireStream) => serveLatestSnap(stream, async (names) => names.map((name) => this.#latest(name))),
        ],
        ["wdiff-transfer", (stream: WireStream) => this.#wdiff(platform, stream)],
      ]),
    });
  }

  #latest(name: string): LatestSnapshot {
    const isKnown = this.state === "Archived";
    const timestampS = this.applied.at(-1)?.timestampS ?? 0;
    return { volume: name, gid: isKnown ? this.latest.gidB : gidMax, timestampS, lsid: undefined };
  }

  #decide(request: WdiffRequest): Decision {
    const forced = this.answer?.(request);
    if (forced !== undefined) return forced;
    if (this.state === "FullSync" || this.state === "HashSync") return refuseWith("syncing");
    if (this.state === "SyncReady") return refuse(new Error("bad state SyncReady"));
    if (this.receiving > 0) return refuseWith("wdiff-recv");
    if (request.uuid !== this.uuid) return refuseWith("different-uuid");
    if (request.sizeLb * 512 > this.image.length) return refuseWith("smaller-lv-size");
    const how = relation(this.latest, request.diff);
    if (how === "too-old") return refuseWith("too-old-diff");
    if (how === "too-new") return refuseWith("too-new-diff");
    if (how === "not-applicable") return refuse(new Error("not applicable"));
    return accept;
  }

  async #wdiff(platform: Platform, stream: WireStream): Promise<void> {
    let request: WdiffRequest | undefined;
    const staged: StagedWrite[] = [];
    let isCounted = false;
    const sink: PackSink = {
      write: async (pack) => {
        try {
          await stage(platform, pack, staged);
        } finally {
          pack.release();
        }
      },
      finish: async () => {
        if (this.delayMs > 0) await platform.clock.sleep(this.delayMs);
        if (relation(this.latest, request!.diff) !== "applicable") throw new Error("not applicable any more");
        this.#apply(staged);
        this.latest = apply(this.latest, request!.diff);
        this.applied.push(request!.diff);
        if (isClean(this.latest)) this.onClean?.(this.latest.gidB, this.image);
      },
      abandon: async () => undefined,
    };
    try {
      await serveWdiffTransfer(
        stream,
        { pool: platform.memory, compute: platform.compute },
        {
          decide: async (asked) => {
            request = asked;
            const decision = this.#decide(asked);
            this.asked.push({ request: asked, decision });
            if (decision.kind === "accept") {
              this.receiving += 1;
              isCounted = true;
            }
            return decision;
          },
          begin: async () => sink,
        },
      );
    } finally {
      if (isCounted) this.receiving -= 1;
    }
  }

  #apply(staged: readonly StagedWrite[]): void {
    for (const { offsetBytes, bytes, sizeBytes } of staged) {
      if (bytes === undefined) this.image.fill(0, offsetBytes, offsetBytes + sizeBytes);
      else this.image.set(bytes, offsetBytes);
    }
  }

  async #fullSync(platform: Platform, stream: WireStream): Promise<void> {
    let codec: Codec = Codec.none;
    let copy = new Uint8Array(0);
    let uuid = "";
    const server: FullSyncServer = {
      decide: async (request) => {
        await this.onStep?.("decide");
        if (this.state !== "SyncReady") return refuse(new Error(`bad state ${this.state}`));
        codec = request.compress.codec;
        copy = new Uint8Array(request.sizeLb * 512);
        return accept;
      },
      begin: async (given) => {
        await this.onStep?.("begin");
        uuid = given;
        this.state = "FullSync";
        return {
          write: async (bulk) => {
            if (bulk.kind === "zero") return;
            try {
              await this.onStep?.("bulk");
              const sizeBytes = bulk.sizeLb * 512;
              copy.set(await decoded(platform, bulk.data, codec, bulk.checksum, sizeBytes), bulk.offsetLb * 512);
            } finally {
              bulk.release();
            }
          },
          finish: async () => this.onStep?.("finish"),
          abandon: async () => undefined,
        };
      },
      commit: async (snapshot) => {
        await this.onStep?.("commit");
        this.image = copy;
        this.uuid = uuid;
        this.latest = snapshot;
        this.state = "Archived";
      },
    };
    try {
      await serveFullSync(stream, platform.memory, server);
    } finally {
      if (this.state === "FullSync") this.state = "SyncReady";
    }
  }

  /** Keeps the image, and what clean snapshots it had. */
  async #hashSync(platform: Platform, stream: WireStream): Promise<void> {
    const staged: StagedWrite[] = [];
    let bulkBytes = 0;
    let seed = 0;
    let uuid = "";
    const sink: PackSink = {
      write: async (pack) => {
        try {
          await this.onStep?.("bulk");
          this.packs.push({ bytes: pack.memory.sizeBytes, records: pack.records.count });
          await stage(platform, pack, staged);
        } finally {
          pack.release();
        }
      },
      finish: async () => this.onStep?.("finish"),
      abandon: async () => undefined,
    };
    try {
      await serveHashSync(
        stream,
        { pool: platform.memory, compute: platform.compute },
        {
          decide: async (request) => {
            await this.onStep?.("decide");
            if (this.state !== "Archived") return refuse(new Error(`bad state ${this.state}`));
            if (this.receiving > 0) return refuse(new Error("bad state WdiffRecv"));
            if (request.sizeLb * 512 > this.image.length) return refuse(new Error("too small"));
            bulkBytes = request.bulkLb * 512;
            seed = hashSeed(request.timestampS);
            this.state = "HashSync";
            return { kind: "accept", latest: this.latest };
          },
          begin: async (given) => {
            await this.onStep?.("begin");
            uuid = given;
            return { hashes: hashesOf(platform, this.image, bulkBytes, seed), sink };
          },
          commit: async (snapshot) => {
            await this.onStep?.("commit");
            this.#apply(staged);
            this.uuid = uuid;
            this.latest = snapshot;
            this.state = "Archived";
          },
        },
      );
    } finally {
      if (this.state === "HashSync") this.state = "Archived";
    }
  }
}

/** Hashes of all bulks of an image. */
async function* hashesOf(platform: Platform, image: Uint8Array, bulkBytes: number, seed: number) {
  for (let at = 0; at < image.length; at += bulkBytes) {
    const bulk = image.subarray(at, at + bulkBytes);
    const lease = await platform.memory.lease(bulk.length);
    try {
      lease.bytes.set(bulk);
      yield await platform.compute.hashes([lease.slice(0, bulk.length)], seed);
    } finally {
      lease.release();
    }
  }
}

async function stage(platform: Platform, pack: ReceivedPack, staged: StagedWrite[]): Promise<void> {
  const { records, memory } = pack;
  for (let i = 0; i < records.count; i++) {
    const offsetBytes = records.addressLb[i]! * 512;
    const sizeBytes = records.blocksLb[i]! * 512;
    if (records.kind[i] !== RecordKind.normal) {
      staged.push({ offsetBytes, sizeBytes, bytes: undefined });
      continue;
    }
    const stored = memory.slice(records.dataOffset[i]!, records.storedBytes[i]!);
    const imageBytes = records.imageLb[i]! * 512;
    const image = await decoded(platform, stored, records.codec[i]! as Codec, records.checksum[i]!, imageBytes);
    const from = records.sliceLb[i]! * 512;
    staged.push({ offsetBytes, sizeBytes, bytes: image.subarray(from, from + sizeBytes) });
  }
}

async function decoded(
  platform: Platform,
  source: Memory,
  codec: Codec,
  checksum: number,
  sizeBytes: number,
): Promise<Uint8Array> {
  const target = await platform.memory.lease(sizeBytes);
  try {
    const results = await platform.compute.decode([{ source, codec, checksum, target }]);
    if (results[0] !== 0) throw new Error(`stored data is bad: ${results[0]}`);
    return target.bytes.slice(0, sizeBytes);
  } finally {
    target.release();
  }
}
