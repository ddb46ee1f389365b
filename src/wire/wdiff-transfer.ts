/**
 * @module wdiff-transfer: a proxy (or an archive) delivers a diff to an archive.
 *
 * ```
 * C> str volume, str hostType, raw[16] uuid, v32 0, v64 sizeLb, MetaDiff
 * S> "accept" | a refusal word | text
 * C> packs, End                        S> Ack when durable and registered
 * ```
 */

import type { DiffMeta } from "../snapshot/types.ts";
import { readAnswer, sendDecision } from "./answers.ts";
import { volumeLbMax } from "./bulk-stream.ts";
import { guarded } from "./guarded.ts";
import { putDiffMeta, takeDiffMeta } from "./meta.ts";
import { type OutgoingPack, type PackReceiverOptions, type PackSink, receivePacks, sendPacks } from "./pack-stream.ts";
import type { Decoder, Encoder } from "./serializer.ts";
import type { WireStream } from "./stream.ts";
import { type Answer, accept, type Decision } from "./words.ts";

/** What a sender asks of an archive. */
export interface WdiffRequest {
  readonly volume: string;
  /** `proxy` or `archive`. */
  readonly hostType: string;
  /** uuid of the log the diff came from, 32 hex digits. */
  readonly uuid: string;
  /** Ignored by receivers; 0. */
  readonly maxIoLb: number;
  readonly sizeLb: number;
  readonly diff: DiffMeta;
}

export function putWdiffRequest(encoder: Encoder, request: WdiffRequest): void {
  encoder.string(request.volume).string(request.hostType).uuid(request.uuid);
  encoder.u32(request.maxIoLb).u64(request.sizeLb);
  putDiffMeta(encoder, request.diff);
}

/** @throws WalbError `protocol` naming the field that cannot be. */
export function takeWdiffRequest(decoder: Decoder): WdiffRequest {
  const volume = decoder.string("volId", 1024);
  const hostType = decoder.string("hostType", 1024);
  const uuid = decoder.uuid();
  const maxIoLb = decoder.u32("maxIoBlocks");
  const sizeLb = decoder.size("sizeLb", volumeLbMax);
  return { volume, hostType, uuid, maxIoLb, sizeLb, diff: takeDiffMeta(decoder) };
}

/** Runs the sender's end. @returns the refusal, or acceptance when the archive has it durable. */
export async function runWdiffTransfer(
  stream: WireStream,
  request: WdiffRequest,
  packs: () => AsyncIterable<OutgoingPack>,
): Promise<Answer> {
  stream.put((encoder) => putWdiffRequest(encoder, request));
  const answer = await readAnswer(stream, "the answer to the diff transfer");
  if (answer.kind !== "accept") return answer;
  await sendPacks(stream, packs());
  await stream.readAck("the Ack of the diff transfer", stream.commitDeadlineMs);
  return accept;
}

/** The archive's part. */
export interface WdiffServer {
  decide(request: WdiffRequest): Promise<Decision>;
  /** Accepted: where the packs go. Its `finish` makes the diff durable and registers it; the Ack follows. */
  begin(): Promise<PackSink>;
}

/** Serves the archive's end. */
export async function serveWdiffTransfer(
  stream: WireStream,
  parts: Pick<PackReceiverOptions, "pool" | "compute">,
  server: WdiffServer,
): Promise<void> {
  const request = await stream.read("the request of a diff transfer", takeWdiffRequest);
  const decision = await server.decide(request);
  if (decision.kind !== "accept") {
    await sendDecision(stream, decision);
    return;
  }
  // The sink is made before the answer, so that its failure is still told as text.
  const sink = await server.begin();
  await guarded(sink, () => sendDecision(stream, decision));
  await receivePacks(stream, { ...parts, limitLb: request.sizeLb }, sink);
  await stream.sendAck();
}
