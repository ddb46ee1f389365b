/**
 * @module wlog-transfer: a storage ships a piece of its log to a proxy.
 *
 * ```
 * C> str volume, raw[16] uuid, v32 pbs, v32 salt, v64 sizeLb, v64 logSizePb
 * S> "accept" | text
 * C> log stream, MetaDiff (clean)      S> Ack when the diff is durable for every archive
 * ```
 */

import type { PackBatch } from "../log/batch.ts";
import type { Compute } from "../native/codec.ts";
import type { MemoryPool } from "../native/memory.ts";
import type { DiffMeta } from "../snapshot/types.ts";
import { readAnswer, sendDecision } from "./answers.ts";
import { volumeLbMax } from "./bulk-stream.ts";
import { guarded } from "./guarded.ts";
import { type LogSink, receiveLog } from "./log-receive.ts";
import { sendLog } from "./log-send.ts";
import { putDiffMeta, takeCleanDiffMeta } from "./meta.ts";
import { badField, type Decoder, type Encoder } from "./serializer.ts";
import type { WireStream } from "./stream.ts";
import { type Answer, accept, type Decision } from "./words.ts";

/** What a storage asks of a proxy. */
export interface WlogRequest {
  readonly volume: string;
  /** uuid of the log, 32 hex digits. */
  readonly uuid: string;
  /** 512 or 4096. */
  readonly pbsBytes: number;
  readonly salt: number;
  readonly sizeLb: number;
  /** PB about to be sent, headers included; 0 for an empty diff. */
  readonly logSizePb: number;
}

export function putWlogRequest(encoder: Encoder, request: WlogRequest): void {
  encoder.string(request.volume).uuid(request.uuid).u32(request.pbsBytes).u32(request.salt);
  encoder.u64(request.sizeLb).u64(request.logSizePb);
}

/** @throws WalbError `protocol` naming the field that cannot be. */
export function takeWlogRequest(decoder: Decoder): WlogRequest {
  const volume = decoder.string("volId", 1024);
  const uuid = decoder.uuid();
  const pbsBytes = decoder.u32("pbs");
  if (pbsBytes !== 512 && pbsBytes !== 4096) throw badField("pbs", `is ${pbsBytes}, but must be 512 or 4096`);
  const salt = decoder.u32("salt");
  const sizeLb = decoder.size("volSizeLb", volumeLbMax);
  return { volume, uuid, pbsBytes, salt, sizeLb, logSizePb: decoder.size("maxLogSizePb") };
}

/** The storage's part. */
export interface WlogClient {
  /** The proxy accepted: the packs to send, in log order. */
  batches(): AsyncIterable<PackBatch>;
  /** All packs were sent: the diff they make, clean at both ends. */
  diff(): DiffMeta;
}

/** Runs the storage's end. @returns the refusal, or acceptance when the proxy has it durable. */
export async function runWlogTransfer(
  stream: WireStream,
  request: WlogRequest,
  parts: { readonly pool: MemoryPool; readonly compute: Compute },
  client: WlogClient,
): Promise<Answer> {
  stream.put((encoder) => putWlogRequest(encoder, request));
  const answer = await readAnswer(stream, "the answer to the log transfer");
  if (answer.kind !== "accept") return answer;
  await sendLog(stream, client.batches(), { ...parts, pbsBytes: request.pbsBytes });
  const diff = client.diff();
  stream.put((encoder) => putDiffMeta(encoder, diff));
  await stream.readAck("the Ack of the log transfer", stream.commitDeadlineMs);
  return accept;
}

/** What a proxy has received behind the last pack. */
export interface ReceivedLog {
  readonly diff: DiffMeta;
  /** lsid behind the last pack, undefined when no pack came. */
  readonly endLsid: number | undefined;
  readonly packs: number;
  readonly logPb: number;
}

/** The proxy's part. */
export interface WlogServer {
  decide(request: WlogRequest): Promise<Decision>;
  /** Accepted: where the packs go. */
  begin(): Promise<LogSink>;
  /** The log is complete: makes the diff durable for every archive; the Ack follows. Must give up by itself when it
   * fails. */
  commit(log: ReceivedLog): Promise<void>;
}

/** Serves the proxy's end. @param parts memory of batches in flight, and the compute pool. */
export async function serveWlogTransfer(
  stream: WireStream,
  parts: { readonly pool: MemoryPool; readonly compute: Compute },
  server: WlogServer,
): Promise<void> {
  const request = await stream.read("the request of a log transfer", takeWlogRequest);
  const decision = await server.decide(request);
  if (decision.kind !== "accept") {
    await sendDecision(stream, decision);
    return;
  }
  // The sink is made before the answer, so that its failure is still told as text.
  const sink = await server.begin();
  await guarded(sink, () => sendDecision(stream, decision));
  const log = await receiveLog(stream, { ...parts, ...request }, sink);
  const diff = await guarded(sink, () =>
    stream.read("the diff of the log", takeCleanDiffMeta, stream.commitDeadlineMs),
  );
  await server.commit({ ...log, diff });
  await stream.sendAck();
}
