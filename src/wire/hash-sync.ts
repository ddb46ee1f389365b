/**
 * @module dirty-hash-sync2: a storage sends an archive what differs from the archive's newest image.
 *
 * ```
 * C> as dirty-full-sync3
 * S> "accept", MetaSnap latest | text
 * C> raw[16] uuid of the log, reset to gid latest.gidE + 1     S> Ack
 *    hash comparison, archive = old image, seed = low 32 bits of the time
 * C> MetaSnap (latest.gidE + 1, gid)                           S> Ack when committed
 * ```
 */

import type { Snapshot } from "../snapshot/types.ts";
import { readAnswer, sendDecision } from "./answers.ts";
import { type BackupRequest, putBackupRequest, takeBackupRequest } from "./full-sync.ts";
import { guarded } from "./guarded.ts";
import { compareHashes, type HashComparer, sendHashes } from "./hash-stream.ts";
import { putSnapshot, takeSnapshot } from "./meta.ts";
import type { PackReceiverOptions, PackSink } from "./pack-stream.ts";
import { badField } from "./serializer.ts";
import type { WireStream } from "./stream.ts";
import { type Answer, accept, type Refusal } from "./words.ts";

/** The seed of the hashes of a backup that began at a time. */
export function hashSeed(timestampS: number): number {
  return timestampS % 0x1_0000_0000;
}

/** The storage's part. */
export interface HashSyncClient {
  /** The archive accepted, and its newest snapshot is `latest`: reset the log to gid `latest.gidE + 1`. @returns its uuid. */
  accepted(latest: Snapshot): Promise<string>;
  /** The archive is ready to send hashes. */
  comparer(): HashComparer;
  /** All differences were sent. @returns the snapshot taken now, (latest.gidE + 1, gid). */
  snapshot(): Promise<Snapshot>;
}

/** Runs the storage's end. @returns the refusal, or acceptance when the archive committed everything. */
export async function runHashSync(stream: WireStream, request: BackupRequest, client: HashSyncClient): Promise<Answer> {
  stream.put((encoder) => putBackupRequest(encoder, request));
  // The archive opens the image to compare with before it answers.
  const answer = await readAnswer(stream, "the answer to the hash backup", undefined, stream.commitDeadlineMs);
  if (answer.kind !== "accept") return answer;
  const latest = await stream.read("the archive's newest snapshot", takeSnapshot);
  const uuid = await client.accepted(latest);
  stream.put((encoder) => encoder.uuid(uuid));
  await stream.readAck("the Ack of the log's uuid", stream.commitDeadlineMs);
  await compareHashes(stream, request, client.comparer());
  const snapshot = await client.snapshot();
  stream.put((encoder) => putSnapshot(encoder, snapshot));
  await stream.readAck("the Ack of the hash backup", stream.commitDeadlineMs);
  return accept;
}

/** How an archive decides about a hash backup: acceptance comes with its newest snapshot. */
export type HashSyncDecision = { readonly kind: "accept"; readonly latest: Snapshot } | Refusal;

/** What the archive's end of a comparison works with. */
export interface HashSyncParts {
  /** 16-byte hashes of the old image's bulks, in order. */
  readonly hashes: AsyncIterable<Uint8Array>;
  readonly sink: PackSink;
}

/** The archive's part. */
export interface HashSyncServer {
  decide(request: BackupRequest): Promise<HashSyncDecision>;
  /** Makes the old image and the new diff ready; the Ack follows. */
  begin(uuid: string): Promise<HashSyncParts>;
  /** The diff is durable: commits it as `latest` → `snapshot`; the last Ack follows. */
  commit(snapshot: Snapshot): Promise<void>;
}

/** Serves the archive's end. */
export async function serveHashSync(
  stream: WireStream,
  packs: Pick<PackReceiverOptions, "pool" | "compute">,
  server: HashSyncServer,
): Promise<void> {
  const request = await stream.read("the request of a hash backup", takeBackupRequest);
  const decision = await server.decide(request);
  await sendDecision(stream, decision.kind === "accept" ? accept : decision);
  if (decision.kind !== "accept") return;
  stream.put((encoder) => putSnapshot(encoder, decision.latest));
  const uuid = await stream.read("the uuid of the log", (decoder) => decoder.uuid(), stream.commitDeadlineMs);
  const parts = await server.begin(uuid);
  await guarded(parts.sink, () => stream.sendAck());
  await sendHashes(stream, request, parts.hashes, { ...packs, limitLb: request.sizeLb }, parts.sink);
  const snapshot = await stream.read("the snapshot", takeSnapshot, stream.commitDeadlineMs);
  if (snapshot.gidB !== decision.latest.gidE + 1n) {
    throw badField("snapshot.gidB", `is ${snapshot.gidB}, but must be ${decision.latest.gidE + 1n}`);
  }
  await server.commit(snapshot);
  await stream.sendAck();
}
