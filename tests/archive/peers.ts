/** @module A storage and a proxy as an archive sees them: the client ends of the wire protocol over any platform. */
import {
  clearPackHeader,
  encodePackRecord,
  packHeaderBytes,
  packRecordsMax,
  sealPackHeader,
} from "../../src/diff/format.ts";
import { RecordKind } from "../../src/diff/types.ts";
import { Codec, maxEncodedBytes } from "../../src/native/codec.ts";
import type { Address } from "../../src/platform/net.ts";
import type { Platform } from "../../src/platform/platform.ts";
import { diffMeta, type Snapshot, snapshot } from "../../src/snapshot/types.ts";
import type { EncodedBulk } from "../../src/wire/bulk-stream.ts";
import { runFullSync } from "../../src/wire/full-sync.ts";
import { connectWire } from "../../src/wire/handshake.ts";
import { hashBytes } from "../../src/wire/hash-stream.ts";
import { hashSeed, runHashSync } from "../../src/wire/hash-sync.ts";
import type { OutgoingPack } from "../../src/wire/pack-stream.ts";
import type { WireStream } from "../../src/wire/stream.ts";
import { runWdiffTransfer } from "../../src/wire/wdiff-transfer.ts";
import type { Answer } from "../../src/wire/words.ts";
import type { ModelRecord } from "./model.ts";

export const logUuid = "00112233445566778899aabbccddeeff";
/** When the full backups of tests began, and the time of gid 0. */
export const startS = 1_800_000_000;

export interface Peer {
  readonly platform: Platform;
  readonly address: Address;
}

async function open(peer: Peer, protocol: string): Promise<WireStream> {
  const { clock, net } = peer.platform;
  // A busy machine, or a virtual one, may take its time.
  const deadlineMs = 120_000;
  const { stream } = await connectWire(net, peer.address, { clock, clientId: "test", protocol, deadlineMs });
  return stream;
}

export interface FullSyncOptions {
  readonly volume?: string;
  readonly uuid?: string;
  readonly bulkLb?: number;
  readonly codec?: Codec;
  readonly gidE?: bigint;
  readonly hostType?: string;
  /** Called before each bulk; may throw to break the transfer off. */
  readonly beforeBulk?: (offsetLb: number) => void | Promise<void>;
  /** Called when the copy is durable, before the last message. */
  readonly beforeSnapshot?: () => void | Promise<void>;
}

/** Sends an image as a full backup. */
export async function sendImage(peer: Peer, image: Uint8Array, options: FullSyncOptions = {}): Promise<Answer> {
  const { bulkLb = 16, codec = Codec.snappy } = options;
  const stream = await open(peer, "dirty-full-sync3");
  const { memory, compute } = peer.platform;
  const sizeLb = image.length / 512;
  async function* bulks(): AsyncGenerator<EncodedBulk> {
    for (let offsetLb = 0; offsetLb < sizeLb; offsetLb += bulkLb) {
      await options.beforeBulk?.(offsetLb);
      const bytes = image.subarray(offsetLb * 512, Math.min(sizeLb, offsetLb + bulkLb) * 512);
      const room = Math.ceil(bytes.length / 4096) * 4096;
      const lease = await memory.lease(room + maxEncodedBytes(bytes.length));
      const source = lease.slice(0, bytes.length);
      source.bytes.set(bytes);
      const target = lease.slice(room, maxEncodedBytes(bytes.length));
      const [result] = await compute.encodeAlways([{ source, target }], { codec, level: 0 });
      if (result === undefined || result.isZero) {
        lease.release();
        yield { kind: "zero" };
        continue;
      }
      const data = (result.codec === Codec.none ? source : target).slice(0, result.storedBytes);
      yield { kind: "data", data, checksum: result.checksum, release: () => lease.release() };
    }
  }
  try {
    const request = {
      hostType: options.hostType ?? "storage",
      volume: options.volume ?? "vol0",
      sizeLb,
      timestampS: startS,
      bulkLb,
      compress: { codec, level: 0, cpuCount: 1 },
    };
    return await runFullSync(stream, request, {
      accepted: async () => options.uuid ?? logUuid,
      bulks,
      async snapshot() {
        await options.beforeSnapshot?.();
        return { gidB: 0n, gidE: options.gidE ?? 1n };
      },
    });
  } finally {
    stream.close();
  }
}

export interface HashSyncOptions {
  readonly volume?: string;
  readonly uuid?: string;
  readonly bulkLb?: number;
  readonly hostType?: string;
  readonly timestampS?: number;
  readonly recordsPerPack?: number;
  /** Gids from the log's reset to the snapshot at the end; default 1. */
  readonly gids?: number;
  /** Called before hashes are compared; may throw to break the transfer off. */
  readonly beforeBulk?: (bulk: number) => void | Promise<void>;
  /** Called when all is sent, before the last message. */
  readonly beforeSnapshot?: () => void | Promise<void>;
}

/** What a hash backup brought. */
export interface HashSyncResult {
  readonly answer: Answer;
  /** The archive's newest snapshot as it was told. */
  readonly latest: Snapshot | undefined;
  /** The last gid of the backup's snapshot. */
  readonly gidE: number;
  /** Bulks that differed. */
  readonly bulks: number;
}

/** Sends what of an image differs from the archive's. */
export async function sendChanges(
  peer: Peer,
  image: Uint8Array,
  options: HashSyncOptions = {},
): Promise<HashSyncResult> {
  const { bulkLb = 16, timestampS = startS, recordsPerPack = packRecordsMax } = options;
  const { memory, compute } = peer.platform;
  const sizeLb = image.length / 512;
  const stream = await open(peer, "dirty-hash-sync2");
  const found: ModelRecord[] = [];
  let sentCount = 0;
  let latest: Snapshot | undefined;
  let gidE = 0n;
  const hashOf = async (bulk: Uint8Array): Promise<Uint8Array> => {
    const lease = await memory.lease(bulk.length);
    try {
      lease.bytes.set(bulk);
      return await compute.hashes([lease.slice(0, bulk.length)], hashSeed(timestampS));
    } finally {
      lease.release();
    }
  };
  async function* due(countMin: number): AsyncGenerator<OutgoingPack> {
    while (found.length - sentCount >= countMin) {
      const records = found.slice(sentCount, sentCount + recordsPerPack);
      sentCount += records.length;
      yield await packOf(peer.platform, records, () => undefined);
    }
  }
  try {
    const request = {
      hostType: options.hostType ?? "storage",
      volume: options.volume ?? "vol0",
      sizeLb,
      timestampS,
      bulkLb,
      compress: { codec: Codec.snappy, level: 0, cpuCount: 1 },
    };
    const answer = await runHashSync(stream, request, {
      async accepted(told) {
        latest = told;
        return options.uuid ?? logUuid;
      },
      comparer: () => ({
        async *compare(firstBulk, hashes) {
          for (let i = 0; i < hashes.length / hashBytes; i++) {
            await options.beforeBulk?.(firstBulk + i);
            const addressLb = (firstBulk + i) * bulkLb;
            const data = image.slice(addressLb * 512, Math.min(sizeLb, addressLb + bulkLb) * 512);
            const old = hashes.subarray(i * hashBytes, (i + 1) * hashBytes);
            if (Buffer.compare(await hashOf(data), old) === 0) continue;
            const kind = data.every((byte) => byte === 0) ? RecordKind.allZero : RecordKind.normal;
            found.push({ addressLb, blocksLb: data.length / 512, kind, data });
          }
          yield* due(recordsPerPack);
        },
        finish: () => due(1),
      }),
      async snapshot() {
        await options.beforeSnapshot?.();
        gidE = latest!.gidE + 1n + BigInt(options.gids ?? 1);
        return { gidB: latest!.gidE + 1n, gidE };
      },
    });
    return { answer, latest, gidE: Number(gidE), bulks: found.length };
  } finally {
    stream.close();
  }
}

export interface DiffOptions {
  readonly volume?: string;
  readonly uuid?: string;
  readonly hostType?: string;
  readonly isMergeable?: boolean;
  readonly isCompared?: boolean;
  readonly sizeLb: number;
  readonly timestampS?: number;
  readonly dataSizeBytes?: number;
  /** Called before each pack; may throw to break the transfer off. */
  readonly beforePack?: (index: number) => void | Promise<void>;
  /** Changes a pack behind its checksums. */
  readonly spoil?: (pack: Uint8Array, index: number) => void;
  readonly recordsPerPack?: number;
}

/** Sends records as a diff; time is one second a gid. */
export async function sendDiff(
  peer: Peer,
  fromGid: number,
  toGid: number,
  records: readonly ModelRecord[],
  options: DiffOptions,
): Promise<Answer> {
  const stream = await open(peer, "wdiff-transfer");
  try {
    const request = {
      volume: options.volume ?? "vol0",
      hostType: options.hostType ?? "proxy",
      uuid: options.uuid ?? logUuid,
      maxIoLb: 0,
      sizeLb: options.sizeLb,
      diff: diffMeta({
        from: snapshot(BigInt(fromGid)),
        to: snapshot(BigInt(toGid)),
        isMergeable: options.isMergeable ?? true,
        isCompared: options.isCompared ?? false,
        timestampS: options.timestampS ?? startS + toGid,
        dataSizeBytes: options.dataSizeBytes ?? 0,
      }),
    };
    return await runWdiffTransfer(stream, request, () => packsOf(peer.platform, records, options));
  } finally {
    stream.close();
  }
}

async function* packsOf(
  platform: Platform,
  records: readonly ModelRecord[],
  options: DiffOptions,
): AsyncGenerator<OutgoingPack> {
  const perPack = options.recordsPerPack ?? packRecordsMax;
  for (let at = 0, index = 0; at < records.length; at += perPack, index++) {
    await options.beforePack?.(index);
    yield await packOf(platform, records.slice(at, at + perPack), (bytes) => options.spoil?.(bytes, index));
  }
}

/** A pack of records, compressed where that helps. */
export async function packOf(
  platform: Platform,
  records: readonly ModelRecord[],
  spoil: (pack: Uint8Array) => void,
): Promise<OutgoingPack> {
  const { memory, compute } = platform;
  const dataBytes = records.reduce((sum, record) => sum + record.data.length, 0);
  const lease = await memory.lease(packHeaderBytes + 3 * dataBytes + 8192);
  const header = lease.slice(0, packHeaderBytes);
  clearPackHeader(header.bytes);
  const scratchAt = packHeaderBytes + dataBytes;
  let at = 0;
  for (const [i, record] of records.entries()) {
    const { addressLb, blocksLb, kind, data } = record;
    if (kind !== RecordKind.normal) {
      encodePackRecord(header.view, i, addressLb, blocksLb, kind, Codec.none, at, 0, 0);
      continue;
    }
    const source = lease.slice(scratchAt, data.length);
    const target = lease.slice(scratchAt + data.length, data.length);
    source.bytes.set(data);
    const [encoded] = await compute.encode([{ source, target }], { codec: Codec.snappy, level: 0 });
    const stored = (encoded!.codec === Codec.none ? source : target).slice(0, encoded!.storedBytes);
    lease.bytes.set(stored.bytes, packHeaderBytes + at);
    const { codec, storedBytes, checksum } = encoded!;
    encodePackRecord(header.view, i, addressLb, blocksLb, kind, codec, at, storedBytes, checksum);
    at += storedBytes;
  }
  sealPackHeader(header.bytes, header.view, records.length, at, false, compute);
  const pack = lease.slice(0, packHeaderBytes + at);
  spoil(pack.bytes);
  return { memory: pack, release: () => lease.release() };
}
