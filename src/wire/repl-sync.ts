/**
 * @module repl-sync3: an archive brings another archive up to date, by whatever of full copy, resynchronization, hash
 * comparison and diffs fits.
 *
 * ```
 * C> SV [volume]                                   S> "accept" | text
 * C> raw[16] archiveUuid, bool allowResync         S> "accept", vi32 kind | text
 *    kind 0 full copy, kind 1 resynchronization, kind 2 neither
 * then turns:  S> MetaState latest   C> vi32 0 stop | 1 hash | 2 diff, each with its request and stream
 * after stop:  S> Ack
 * ```
 */
import type { Compute } from "../native/codec.ts";
import type { MemoryPool } from "../native/memory.ts";
import type { ArchiveState, DiffMeta, Snapshot } from "../snapshot/types.ts";
import { readAnswer, sendDecision } from "./answers.ts";
import { type BulkSink, bulkLbMax, type EncodedBulk, receiveBulks, sendBulks, volumeLbMax } from "./bulk-stream.ts";
import { readParameters, sendParameters } from "./commands.ts";
import { guarded } from "./guarded.ts";
import { compareHashes, type HashComparer, sendHashes } from "./hash-stream.ts";
import type { HashSyncParts } from "./hash-sync.ts";
import {
  type CompressConfig,
  putArchiveState,
  putCompressConfig,
  putDiffMeta,
  takeArchiveState,
  takeCompressConfig,
  takeDiffMeta,
} from "./meta.ts";
import { type OutgoingPack, type PackSink, receivePacks, sendPacks } from "./pack-stream.ts";
import { badField, type Decoder, type Encoder } from "./serializer.ts";
import type { WireStream } from "./stream.ts";
import { type Answer, accept, type Decision, refusedError, wordOk } from "./words.ts";

/** How the receiving archive wants to begin. */
export const ReplKind = { full: 0, resync: 1, hashOrDiff: 2 } as const;
export type ReplKind = (typeof ReplKind)[keyof typeof ReplKind];

/** What the sending archive does in a turn. */
const ReplTurnCode = { stop: 0, hash: 1, diff: 2 } as const;

/** A full copy of a base image. */
export interface ReplFullRequest {
  readonly sizeLb: number;
  readonly bulkLb: number;
  /** The state the image is in. */
  readonly base: ArchiveState;
  /** uuid of the log, 32 hex digits. */
  readonly uuid: string;
  readonly compress: CompressConfig;
}

/** A resynchronization of a base image that exists at both ends. */
export interface ReplResyncRequest extends ReplFullRequest {
  /** The sender's archive uuid, which the receiver takes over. */
  readonly archiveUuid: string;
  readonly hashSeed: number;
}

/** A comparison that becomes a diff at the receiver. */
export interface ReplHashRequest {
  readonly sizeLb: number;
  readonly bulkLb: number;
  readonly diff: DiffMeta;
  readonly uuid: string;
  readonly compress: CompressConfig;
  readonly hashSeed: number;
}

/** A diff, possibly merged of several. */
export interface ReplDiffRequest {
  readonly sizeLb: number;
  readonly uuid: string;
  readonly diff: DiffMeta;
}

/** What the sender does next. */
export type ReplTurn =
  | { readonly kind: "stop" }
  | { readonly kind: "hash"; readonly request: ReplHashRequest; comparer(): HashComparer }
  | { readonly kind: "diff"; readonly request: ReplDiffRequest; packs(): AsyncIterable<OutgoingPack> };

/** The sending archive's part. */
export interface ReplClient {
  readonly volume: string;
  readonly archiveUuid: string;
  /** May everything at the receiver be replaced when it does not fit? */
  readonly allowResync: boolean;
  /** The receiver accepted the volume: the controller may be told. */
  accepted(): void | Promise<void>;
  full(): Promise<ReplFullRequest>;
  /** Bulks of the base image from `startLb` on. */
  bulks(startLb: number): AsyncIterable<EncodedBulk>;
  resync(): Promise<Omit<ReplResyncRequest, "archiveUuid">>;
  /** Compares the base image. */
  resyncComparer(): HashComparer;
  /** What to do, given the receiver's state. */
  next(latest: ArchiveState): Promise<ReplTurn>;
}

/** How a replication ended, and at what step. */
export interface ReplOutcome {
  readonly answer: Answer;
  /** `volume`: the receiver does not take it now; `kind`: it would have to be resynchronized; `diff`: it has what was to
   * be sent from elsewhere, ask again; `end`: it has everything. */
  readonly step: "volume" | "kind" | "diff" | "end";
}

/** Runs the sender's end. @returns the refusal, or acceptance when the receiver has everything. */
export async function runReplSync(stream: WireStream, client: ReplClient): Promise<ReplOutcome> {
  sendParameters(stream, [client.volume]);
  const first = await readAnswer(stream, "the answer to the replication");
  if (first.kind !== "accept") return { answer: first, step: "volume" };
  await client.accepted();
  stream.put((encoder) => encoder.uuid(client.archiveUuid).bool(client.allowResync));
  const second = await readAnswer(stream, "the kind of replication");
  if (second.kind !== "accept") return { answer: second, step: "kind" };
  const kind = await stream.readI32("the kind of replication");
  if (kind === ReplKind.full) await sendFull(stream, client);
  else if (kind === ReplKind.resync) {
    if (!client.allowResync) throw stream.protocolError("the kind of replication", "a resync was not allowed");
    await sendResync(stream, client);
  } else if (kind !== ReplKind.hashOrDiff) {
    throw stream.protocolError("the kind of replication", `kind ${kind} is not known`);
  }
  let beforeGid: bigint | undefined;
  for (;;) {
    const latest = await stream.read("the receiver's state", takeArchiveState, stream.commitDeadlineMs);
    requireForward(stream, latest.from, beforeGid);
    beforeGid = latest.from.gidB;
    const turn = await client.next(latest);
    if (turn.kind === "stop") {
      stream.put((encoder) => encoder.i32(ReplTurnCode.stop));
      await stream.readAck("the Ack of the replication", stream.commitDeadlineMs);
      return { answer: accept, step: "end" };
    }
    if (turn.kind === "hash") await sendHashTurn(stream, turn.request, turn.comparer);
    else {
      const answer = await sendDiffTurn(stream, turn.request, turn.packs);
      if (answer.kind !== "accept") return { answer, step: "diff" };
    }
  }
}

/** Each turn brings the receiver forward: one that says otherwise would be sent the same for ever. */
function requireForward(stream: WireStream, { gidB, gidE }: Snapshot, beforeGid: bigint | undefined): void {
  const step = "the receiver's state";
  if (gidE > BigInt(Number.MAX_SAFE_INTEGER)) throw stream.protocolError(step, `no history has a gid ${gidE}`);
  if (beforeGid === undefined || gidB > beforeGid) return;
  throw stream.protocolError(step, `it is at gid ${gidB} although it took what leads on from gid ${beforeGid}`);
}

async function sendFull(stream: WireStream, client: ReplClient): Promise<void> {
  const request = await client.full();
  stream.put((encoder) => putFullRequest(encoder, request));
  await expectOk(stream, "the full copy");
  // An earlier copy may have had bulks of another size: any block can be the start.
  const startLb = await stream.readSize("the start of the full copy", request.sizeLb);
  await sendBulks(stream, { startLb, sizeLb: request.sizeLb, bulkLb: request.bulkLb }, client.bulks(startLb));
}

async function sendResync(stream: WireStream, client: ReplClient): Promise<void> {
  const request = { ...(await client.resync()), archiveUuid: client.archiveUuid };
  stream.put((encoder) => putResyncRequest(encoder, request));
  await expectOk(stream, "the resynchronization");
  await compareHashes(stream, request, client.resyncComparer());
}

async function sendHashTurn(stream: WireStream, request: ReplHashRequest, comparer: () => HashComparer): Promise<void> {
  stream.put((encoder) => {
    encoder.i32(ReplTurnCode.hash);
    putHashRequest(encoder, request);
  });
  await expectOk(stream, "the hash comparison");
  await compareHashes(stream, request, comparer());
}

async function sendDiffTurn(
  stream: WireStream,
  request: ReplDiffRequest,
  packs: () => AsyncIterable<OutgoingPack>,
): Promise<Answer> {
  stream.put((encoder) => {
    encoder.i32(ReplTurnCode.diff);
    putDiffRequest(encoder, request);
  });
  const answer = await readOk(stream, "the diff");
  if (answer.kind === "word" && answer.word === "too-old-diff") return answer;
  requireOk(stream, "the diff", answer);
  await sendPacks(stream, packs());
  await stream.readAck("the Ack of the diff", stream.commitDeadlineMs);
  return accept;
}

async function expectOk(stream: WireStream, what: string): Promise<void> {
  requireOk(stream, what, await readOk(stream, what));
}

/** The receiver's ok may need an image made first. */
function readOk(stream: WireStream, what: string): Promise<Answer> {
  return readAnswer(stream, `the answer to ${what}`, wordOk, stream.commitDeadlineMs);
}

function requireOk(stream: WireStream, what: string, answer: Answer): void {
  if (answer.kind !== "accept") throw refusedError(stream.peerName, what, answer);
}

/** A refusal in the middle of a replication. */
export type ReplRefusal = Exclude<Decision, { readonly kind: "accept" }>;

/** The receiving archive's part. Every sink's `finish` makes durable **and** commits: the state told next contains it. */
export interface ReplServer {
  decide(volume: string): Promise<Decision>;
  /** How to begin; a refusal when a resynchronization is needed and not allowed. */
  choose(
    archiveUuid: string,
    allowResync: boolean,
  ): Promise<{ readonly kind: ReplKind } | { readonly refusal: ReplRefusal }>;
  /** @param archiveUuid stored before the data, so that the copy can be resumed. */
  full(
    request: ReplFullRequest,
    archiveUuid: string,
  ): Promise<{ readonly startLb: number; readonly sink: BulkSink } | { readonly refusal: ReplRefusal }>;
  resync(request: ReplResyncRequest): Promise<HashSyncParts | { readonly refusal: ReplRefusal }>;
  hash(request: ReplHashRequest): Promise<HashSyncParts | { readonly refusal: ReplRefusal }>;
  diff(request: ReplDiffRequest): Promise<{ readonly sink: PackSink } | { readonly refusal: ReplRefusal }>;
  latest(): Promise<ArchiveState>;
  /** The sender is through; the last Ack follows. */
  stop?(): Promise<void>;
}

/** What serving a replication works with. */
export interface ReplParts {
  readonly pool: MemoryPool;
  readonly compute: Compute;
}

/** Serves the receiver's end. */
export async function serveReplSync(stream: WireStream, parts: ReplParts, server: ReplServer): Promise<void> {
  const [volume = ""] = await readParameters(stream, { exactCount: 1 });
  if (!(await sendDecision(stream, await server.decide(volume)))) return;
  stream.confirmationDue = true;
  const archiveUuid = await stream.read("the archive uuid", (decoder) => decoder.uuid(), stream.commitDeadlineMs);
  const allowResync = await stream.readBool("doResync");
  const choice = await server.choose(archiveUuid, allowResync);
  if ("refusal" in choice) {
    await sendDecision(stream, choice.refusal);
    return;
  }
  await sendDecision(stream, accept);
  stream.put((encoder) => encoder.i32(choice.kind));
  stream.confirmationDue = choice.kind !== ReplKind.hashOrDiff;
  if (choice.kind === ReplKind.full) {
    if (!(await receiveFull(stream, parts, server, archiveUuid))) return;
  } else if (choice.kind === ReplKind.resync) {
    const request = await stream.read("the resynchronization", takeResyncRequest, stream.commitDeadlineMs);
    const ready = await server.resync(request);
    if (!(await receiveDifferences(stream, parts, request, ready))) return;
  }
  await serveTurns(stream, parts, server);
}

async function serveTurns(stream: WireStream, parts: ReplParts, server: ReplServer): Promise<void> {
  for (;;) {
    const latest = await server.latest();
    stream.put((encoder) => putArchiveState(encoder, latest));
    const code = await stream.read("the next turn", (decoder) => decoder.i32("turn"), stream.commitDeadlineMs);
    stream.confirmationDue = true;
    if (code === ReplTurnCode.stop) {
      stream.confirmationDue = false;
      await server.stop?.();
      await stream.sendAck();
      return;
    }
    if (code === ReplTurnCode.hash) {
      const request = await stream.read("the hash comparison", takeHashRequest);
      if (!(await receiveDifferences(stream, parts, request, await server.hash(request)))) return;
    } else if (code === ReplTurnCode.diff) {
      const request = await stream.read("the diff", takeDiffRequest);
      if (!(await receiveDiff(stream, parts, request, await server.diff(request)))) return;
    } else {
      stream.confirmationDue = false;
      throw stream.protocolError("the next turn", `turn ${code} is not known`);
    }
  }
}

async function receiveFull(
  stream: WireStream,
  { pool }: ReplParts,
  server: ReplServer,
  archiveUuid: string,
): Promise<boolean> {
  const request = await stream.read("the full copy", takeFullRequest, stream.commitDeadlineMs);
  const ready = await server.full(request, archiveUuid);
  if ("refusal" in ready) return sendDecision(stream, ready.refusal, wordOk);
  const { startLb, sink } = ready;
  await guarded(sink, async () => {
    stream.put((encoder) => encoder.string(wordOk).u64(startLb));
    stream.confirmationDue = false;
    await stream.flush("sending the answer");
  });
  await receiveBulks(stream, { startLb, sizeLb: request.sizeLb, bulkLb: request.bulkLb }, pool, sink);
  return true;
}

async function receiveDifferences(
  stream: WireStream,
  parts: ReplParts,
  request: ReplHashRequest | ReplResyncRequest,
  ready: HashSyncParts | { readonly refusal: ReplRefusal },
): Promise<boolean> {
  if ("refusal" in ready) return sendDecision(stream, ready.refusal, wordOk);
  await guarded(ready.sink, () => sendDecision(stream, accept, wordOk));
  await sendHashes(stream, request, ready.hashes, { ...parts, limitLb: request.sizeLb }, ready.sink);
  return true;
}

async function receiveDiff(
  stream: WireStream,
  parts: ReplParts,
  request: ReplDiffRequest,
  ready: { readonly sink: PackSink } | { readonly refusal: ReplRefusal },
): Promise<boolean> {
  if ("refusal" in ready) return sendDecision(stream, ready.refusal, wordOk);
  await guarded(ready.sink, () => sendDecision(stream, accept, wordOk));
  await receivePacks(stream, { ...parts, limitLb: request.sizeLb }, ready.sink);
  await stream.sendAck();
  return true;
}

export function putFullRequest(encoder: Encoder, request: ReplFullRequest): void {
  encoder.u64(request.sizeLb).u64(request.bulkLb);
  putArchiveState(encoder, request.base);
  encoder.uuid(request.uuid);
  putCompressConfig(encoder, request.compress);
}

function takeFullRequest(decoder: Decoder): ReplFullRequest {
  const { sizeLb, bulkLb } = takeSizes(decoder);
  const base = takeArchiveState(decoder, "base");
  return { sizeLb, bulkLb, base, uuid: decoder.uuid(), compress: takeCompressConfig(decoder) };
}

function putResyncRequest(encoder: Encoder, request: ReplResyncRequest): void {
  encoder.u64(request.sizeLb).u64(request.bulkLb);
  putArchiveState(encoder, request.base);
  encoder.uuid(request.uuid).uuid(request.archiveUuid);
  putCompressConfig(encoder, request.compress);
  encoder.u32(request.hashSeed);
}

function takeResyncRequest(decoder: Decoder): ReplResyncRequest {
  const { sizeLb, bulkLb } = takeSizes(decoder);
  const base = takeArchiveState(decoder, "base");
  const uuid = decoder.uuid();
  const archiveUuid = decoder.uuid();
  const compress = takeCompressConfig(decoder);
  return { sizeLb, bulkLb, base, uuid, archiveUuid, compress, hashSeed: decoder.u32("hashSeed") };
}

export function putHashRequest(encoder: Encoder, request: ReplHashRequest): void {
  encoder.u64(request.sizeLb).u64(request.bulkLb);
  putDiffMeta(encoder, request.diff);
  encoder.uuid(request.uuid);
  putCompressConfig(encoder, request.compress);
  encoder.u32(request.hashSeed);
}

function takeHashRequest(decoder: Decoder): ReplHashRequest {
  const { sizeLb, bulkLb } = takeSizes(decoder);
  const diff = takeDiffMeta(decoder);
  const uuid = decoder.uuid();
  const compress = takeCompressConfig(decoder);
  return { sizeLb, bulkLb, diff, uuid, compress, hashSeed: decoder.u32("hashSeed") };
}

function putDiffRequest(encoder: Encoder, request: ReplDiffRequest): void {
  encoder.u64(request.sizeLb).u32(0).uuid(request.uuid);
  putDiffMeta(encoder, request.diff);
}

function takeDiffRequest(decoder: Decoder): ReplDiffRequest {
  const sizeLb = decoder.size("sizeLb", volumeLbMax);
  decoder.u32("maxIoBlocks");
  const uuid = decoder.uuid();
  return { sizeLb, uuid, diff: takeDiffMeta(decoder) };
}

function takeSizes(decoder: Decoder): { sizeLb: number; bulkLb: number } {
  const sizeLb = decoder.size("sizeLb", volumeLbMax);
  const bulkLb = decoder.size("bulkLb", bulkLbMax);
  if (sizeLb === 0) throw badField("sizeLb", "is 0");
  if (bulkLb === 0) throw badField("bulkLb", "is 0");
  return { sizeLb, bulkLb };
}
