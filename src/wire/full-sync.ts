/**
 * @module dirty-full-sync3: a storage copies a whole volume to an archive while it is written to.
 *
 * ```
 * C> str "storage", str volume, v64 sizeLb, v64 time, v64 bulkLb, CompressOpt
 * S> "accept" | text
 * C> raw[16] uuid of the freshly reset log          S> Ack
 * C> bulks                                          S> Ack when durable
 * C> MetaSnap (0, gid of the snapshot after it)     S> Ack when the base image is committed
 * ```
 */
import type { MemoryPool } from "../native/memory.ts";
import type { Snapshot } from "../snapshot/types.ts";
import { readAnswer, sendDecision } from "./answers.ts";
import { type BulkSink, bulkLbMax, type EncodedBulk, receiveBulks, sendBulks, volumeLbMax } from "./bulk-stream.ts";
import { guarded } from "./guarded.ts";
import { type CompressConfig, putCompressConfig, putSnapshot, takeCompressConfig, takeSnapshot } from "./meta.ts";
import { badField, type Decoder, type Encoder } from "./serializer.ts";
import type { WireStream } from "./stream.ts";
import { type Answer, accept, type Decision } from "./words.ts";

/** What a storage asks of an archive for a full or hash backup. */
export interface BackupRequest {
  /** `storage` from a storage; an archive refuses anything else. */
  readonly hostType: string;
  readonly volume: string;
  readonly sizeLb: number;
  /** When the backup began; also the seed of a hash backup. */
  readonly timestampS: number;
  readonly bulkLb: number;
  readonly compress: CompressConfig;
}

export function putBackupRequest(encoder: Encoder, request: BackupRequest): void {
  encoder.string(request.hostType).string(request.volume);
  encoder.u64(request.sizeLb).u64(request.timestampS).u64(request.bulkLb);
  putCompressConfig(encoder, request.compress);
}

/** @throws WalbError `protocol` naming the field that cannot be. */
export function takeBackupRequest(decoder: Decoder): BackupRequest {
  const hostType = decoder.string("hostType", 1024);
  const volume = decoder.string("volId", 1024);
  const sizeLb = decoder.size("sizeLb", volumeLbMax);
  const timestampS = decoder.size("curTime");
  const bulkLb = decoder.size("bulkLb", bulkLbMax);
  if (sizeLb === 0) throw badField("sizeLb", "is 0");
  if (bulkLb === 0) throw badField("bulkLb", "is 0");
  return { hostType, volume, sizeLb, timestampS, bulkLb, compress: takeCompressConfig(decoder) };
}

/** The storage's part. Each step runs when the one before it is acknowledged. */
export interface FullSyncClient {
  /** The archive accepted: tell the controller, reset the log. @returns the uuid of the fresh log. */
  accepted(): Promise<string>;
  /** The archive is ready: the volume's bulks in ascending order. */
  bulks(): AsyncIterable<EncodedBulk>;
  /** The copy is durable at the archive. @returns the snapshot taken now, (0, gid). */
  snapshot(): Promise<Snapshot>;
  /** LB copied so far. */
  progress?(doneLb: number): void;
}

/** Runs the storage's end. @returns the refusal, or acceptance when the archive committed everything. */
export async function runFullSync(stream: WireStream, request: BackupRequest, client: FullSyncClient): Promise<Answer> {
  stream.put((encoder) => putBackupRequest(encoder, request));
  const answer = await readAnswer(stream, "the answer to the full backup");
  if (answer.kind !== "accept") return answer;
  const uuid = await client.accepted();
  stream.put((encoder) => encoder.uuid(uuid));
  await stream.readAck("the Ack of the log's uuid", stream.commitDeadlineMs);
  const range = { startLb: 0, sizeLb: request.sizeLb, bulkLb: request.bulkLb };
  await sendBulks(stream, range, client.bulks(), (doneLb) => client.progress?.(doneLb));
  const snapshot = await client.snapshot();
  stream.put((encoder) => putSnapshot(encoder, snapshot));
  await stream.readAck("the Ack of the full backup", stream.commitDeadlineMs);
  return accept;
}

/** The archive's part. */
export interface FullSyncServer {
  /** Policy; nothing is changed yet. */
  decide(request: BackupRequest): Promise<Decision>;
  /** Makes the base image ready; the Ack follows. */
  begin(uuid: string): Promise<BulkSink>;
  /** The copy is durable: commits it as the base image at this snapshot; the last Ack follows. */
  commit(snapshot: Snapshot): Promise<void>;
}

/** Serves the archive's end. @param pool memory of bulks in flight. */
export async function serveFullSync(stream: WireStream, pool: MemoryPool, server: FullSyncServer): Promise<void> {
  const request = await stream.read("the request of a full backup", takeBackupRequest);
  if (!(await sendDecision(stream, await server.decide(request)))) return;
  // The storage resets its log now, which waits for its device.
  const uuid = await stream.read("the uuid of the log", (decoder) => decoder.uuid(), stream.commitDeadlineMs);
  const sink = await server.begin(uuid);
  await guarded(sink, () => stream.sendAck());
  await receiveBulks(stream, { startLb: 0, sizeLb: request.sizeLb, bulkLb: request.bulkLb }, pool, sink);
  const snapshot = await stream.read("the snapshot", takeSnapshot, stream.commitDeadlineMs);
  if (snapshot.gidB !== 0n) throw badField("snapshot.gidB", `is ${snapshot.gidB}, but a full backup begins at 0`);
  await server.commit(snapshot);
  await stream.sendAck();
}
