/**
 * @module bhash and virt-full-scan: the hash and the content of a volume at a point of its history.
 *
 * ```
 * bhash           S> "accept"  ( 03 Dummy )*  01 End  "ok", raw[16]
 * virt-full-scan  S> "accept", v64 sizeLb  ( 00 Next, v64 storedBytes, raw snappy )*  01 End    C> Ack    S> "ok"
 * ```
 * The request is a list of parameters like that of any command, see `commands.ts`.
 */
import { asWalbError, WalbError } from "../errors.ts";
import type { Memory, MemoryPool } from "../native/memory.ts";
import { lbBytes } from "../units.ts";
import { sendDecision } from "./answers.ts";
import { volumeLbMax } from "./bulk-stream.ts";
import { confirmed, reply, replyError, runCommand } from "./commands.ts";
import { unexpectedControl } from "./pack-stream.ts";
import { type Decoder, serializerLimits } from "./serializer.ts";
import type { WireStream } from "./stream.ts";
import { accept, ackWord, reasonOf, refusedError, StreamControl, wordAccept, wordOk } from "./words.ts";

/** How often the archive shows that it is alive while it hashes, and looks whether the client of a scan is. */
const dummyIntervalMs = 1000;

/** Asks for the hash of a volume. @param parameters `[volume, gid, bulk, size]`. @returns 16 bytes. */
export async function runBhash(stream: WireStream, parameters: readonly string[]): Promise<Uint8Array> {
  await runCommand(stream, "bhash", parameters, wordAccept);
  // The original sends its error text where a control byte is expected.
  const next = (decoder: Decoder): number | string => {
    const at = decoder.offsetBytes;
    const byte = decoder.u8();
    if (byte === StreamControl.dummy || byte === StreamControl.end) return byte;
    decoder.seek(at);
    return decoder.string("error text", serializerLimits.textBytes);
  };
  for (;;) {
    const value = await stream.read("the hash", next, stream.commitDeadlineMs);
    if (value === StreamControl.end) break;
    if (typeof value === "string") {
      throw refusedError(stream.peerName, "bhash", { kind: "text", text: reasonOf(value) });
    }
  }
  await confirmed(stream, "bhash", wordOk);
  return stream.read("the hash", (decoder) => decoder.raw(16).slice());
}

/**
 * Serves a hash: `work` computes it, while the client is shown every second that we live. When nobody is there any more it
 * is told to end: an apply or a resize would wait for it.
 */
export async function serveBhash(
  stream: WireStream,
  work: (signal: AbortSignal) => Promise<Uint8Array>,
): Promise<void> {
  await sendDecision(stream, accept);
  let isDone = false;
  const gone = new AbortController();
  const leave = (error?: unknown): void =>
    gone.abort(error ?? new WalbError("cancelled", { what: "nobody waits for the hash any more" }));
  const beat = (): void => {
    stream.clock.timer(
      dummyIntervalMs,
      () => {
        if (isDone) return;
        if (stream.failure !== undefined || stream.connection.isClosed) return leave(stream.failure);
        stream.put((encoder) => encoder.u8(StreamControl.dummy));
        stream.flush("sending a sign of life").then(beat, leave);
      },
      { unref: true },
    );
  };
  beat();
  let hash: Uint8Array | undefined;
  let failure: WalbError | undefined;
  try {
    hash = await work(gone.signal);
  } catch (error) {
    failure = asWalbError(error);
  }
  isDone = true;
  stream.put((encoder) => encoder.u8(StreamControl.end));
  if (hash !== undefined) {
    const value = hash;
    await reply(stream, wordOk, (encoder) => encoder.raw(value));
    return;
  }
  await replyError(stream, failure);
  if (failure !== undefined) throw failure;
}

/** A bulk of a scan; stored bytes are a raw snappy block of `sizeLb` · 512 bytes. */
export interface ScannedBulk {
  readonly offsetLb: number;
  readonly sizeLb: number;
  /** undefined when all zero. */
  readonly data: Memory | undefined;
  /** Gives the memory back, exactly once. */
  release(): void;
}

/** Takes the bulks of a scan. */
export interface ScanSink {
  begin(sizeLb: number): void | Promise<void>;
  /** Takes over one bulk, in ascending order. */
  write(bulk: ScannedBulk): void | Promise<void>;
  /** All bulks came. */
  finish(): Promise<void>;
  /** The scan broke: resolves when every lease is back. Must not throw. */
  abandon(error: unknown): Promise<void>;
}

/** Asks for the content of a volume. @param bulkLb what the parameters say; both ends must agree on it. */
export async function runVirtualScan(
  stream: WireStream,
  parameters: readonly string[],
  bulkLb: number,
  pool: MemoryPool,
  sink: ScanSink,
): Promise<void> {
  await runCommand(stream, "virt-full-scan", parameters, wordAccept);
  try {
    const sizeLb = await stream.readSize("the size of the scan", volumeLbMax);
    await sink.begin(sizeLb);
    let offsetLb = 0;
    for (;;) {
      const unitLb = Math.min(bulkLb, sizeLb - offsetLb);
      const bulk = await receiveScanned(stream, offsetLb, unitLb, pool);
      if (bulk === undefined) break;
      const taken = sink.write(bulk);
      if (taken !== undefined) await taken;
      offsetLb += unitLb;
    }
    if (offsetLb !== sizeLb) {
      throw stream.protocolError("the scan", `the scan ended at ${offsetLb} of ${sizeLb} LB`);
    }
    await sink.finish();
  } catch (error) {
    await sink.abandon(error);
    throw error;
  }
  stream.put((encoder) => encoder.u32(ackWord));
  await confirmed(stream, "virt-full-scan", wordOk);
}

async function receiveScanned(
  stream: WireStream,
  offsetLb: number,
  sizeLb: number,
  pool: MemoryPool,
): Promise<ScannedBulk | undefined> {
  let control = 0;
  let storedBytes = 0;
  const header = (decoder: Decoder): true => {
    control = decoder.u8();
    if (control === StreamControl.next) storedBytes = decoder.size("bulk size", 2 * sizeLb * lbBytes + 4096);
    return true;
  };
  if (stream.poll(header) === undefined) await stream.read("the scan", header, stream.commitDeadlineMs);
  if (control === StreamControl.end) return undefined;
  if (control !== StreamControl.next) throw unexpectedControl(stream, "the scan", control);
  if (sizeLb === 0) throw stream.protocolError("the scan", "more bulks came than the volume has");
  if (storedBytes === 0) return { offsetLb, sizeLb, data: undefined, release: () => undefined };
  const lease = pool.tryLease(storedBytes) ?? (await pool.lease(storedBytes));
  try {
    const data = lease.slice(0, storedBytes);
    await stream.readMemory(data, "the scan");
    return { offsetLb, sizeLb, data, release: () => lease.release() };
  } catch (error) {
    lease.release();
    throw error;
  }
}

/** A bulk to send: undefined data is all zero. */
export interface BulkToScan {
  readonly data: Memory | undefined;
  /** Called exactly once, when the socket has taken the data. */
  release(): void;
}

/**
 * Serves the content of a volume. The bulks end early with an error when the scan is stopped; their signal tells them to
 * end when nobody is there any more, which no write would find while they wait for their rate.
 */
export async function serveVirtualScan(
  stream: WireStream,
  sizeLb: number,
  bulkLb: number,
  bulks: (signal: AbortSignal) => AsyncIterable<BulkToScan>,
): Promise<void> {
  await sendDecision(stream, accept);
  stream.put((encoder) => encoder.u64(sizeLb));
  let offsetLb = 0;
  const gone = new AbortController();
  const watch = watchPeer(stream, gone);
  try {
    for await (const bulk of bulks(gone.signal)) {
      try {
        const storedBytes = bulk.data?.sizeBytes ?? 0;
        stream.put((encoder) => encoder.u8(StreamControl.next).u64(storedBytes));
        if (bulk.data !== undefined) await stream.sendBulk(bulk.data.bytes, "sending the scan");
        else if (stream.isFlushDue) await stream.flush("sending the scan");
      } finally {
        bulk.release();
      }
      offsetLb = Math.min(offsetLb + bulkLb, sizeLb);
    }
    if (offsetLb !== sizeLb) throw new WalbError("internal", { what: `the scan ended at ${offsetLb} of ${sizeLb} LB` });
  } catch (error) {
    if (stream.failure === undefined && !gone.signal.aborted) {
      stream.put((encoder) => encoder.u8(StreamControl.error));
      await stream.flush("sending the error");
    }
    throw error;
  } finally {
    watch.end();
  }
  stream.put((encoder) => encoder.u8(StreamControl.end));
  await stream.readAck("the Ack of the scan", stream.commitDeadlineMs);
  await reply(stream);
}

/** Looks each second whether the client, which has nothing to say before the end, is still there. */
function watchPeer(stream: WireStream, gone: AbortController): { end(): void } {
  let isEnded = false;
  const look = (): void => {
    if (isEnded) return;
    const isGone = stream.failure !== undefined || stream.connection.isClosed || stream.isAtEnd;
    if (isGone) gone.abort(stream.failure ?? new WalbError("cancelled", { what: "nobody takes the scan any more" }));
    else again();
  };
  const again = (): void => {
    stream.clock.timer(dummyIntervalMs, look, { unref: true });
  };
  again();
  return {
    end() {
      isEnded = true;
    },
  };
}
