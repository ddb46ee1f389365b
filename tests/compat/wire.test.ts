import { describe, expect, test } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { PackBatch } from "../../src/log/batch.ts";
import type { ArchiveState, Snapshot } from "../../src/snapshot/types.ts";
import { type BulkSink, bulkLbMax, type EncodedBulk, type ReceivedBulk } from "../../src/wire/bulk-stream.ts";
import { putBackupRequest, runFullSync, serveFullSync, takeBackupRequest } from "../../src/wire/full-sync.ts";
import { greet, readHello, welcome } from "../../src/wire/handshake.ts";
import { runHashSync, serveHashSync } from "../../src/wire/hash-sync.ts";
import { runLatestSnap, serveLatestSnap } from "../../src/wire/latest-snap.ts";
import { takeArchiveState, takeLatestSnapshot, takeSnapshot } from "../../src/wire/meta.ts";
import type { OutgoingPack, PackSink, ReceivedPack } from "../../src/wire/pack-stream.ts";
import { type ReplKind, type ReplTurn, runReplSync, serveReplSync } from "../../src/wire/repl-sync.ts";
import { Decoder, Encoder, encoded, ShortRead } from "../../src/wire/serializer.ts";
import { WireStream } from "../../src/wire/stream.ts";
import {
  putWdiffRequest,
  runWdiffTransfer,
  serveWdiffTransfer,
  takeWdiffRequest,
} from "../../src/wire/wdiff-transfer.ts";
import { putWlogRequest, runWlogTransfer, serveWlogTransfer, takeWlogRequest } from "../../src/wire/wlog-transfer.ts";
import { accept, ackWord, parseAnswer } from "../../src/wire/words.ts";
import { connectionPair, ManualClock, randomChunks, settle } from "../helpers/connection-pair.ts";
import { compute, leaseOf, testPool } from "../helpers/wire.ts";
import { copyAnswer, copyRequest } from "../helpers/wire-messages.ts";

interface Segment {
  readonly dir: "C>" | "S>";
  readonly hex?: string;
  readonly base64?: string;
}

interface Conversation {
  readonly name: string;
  readonly protocol: string;
  readonly clientId: string;
  readonly segments: readonly Segment[];
}

const root = process.env.WALB_VECTORS === undefined ? undefined : join(process.env.WALB_VECTORS, "wire");
const isThere = root !== undefined && existsSync(join(root, "README.md"));
if (!isThere) console.log("recorded conversations are skipped: WALB_VECTORS does not name a directory with them");

function load(protocol: string): Conversation[] {
  const text = new TextDecoder().decode(Bun.gunzipSync(readFileSync(join(root!, `${protocol}.jsonl.gz`))));
  return text
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line) as Conversation);
}

/** Numbers of the streams that were cut on purpose. */
function isAborted(conversation: Conversation): boolean {
  const numbers = readFileSync(join(root!, "aborted.txt"), "utf8").split(/\s+/);
  return numbers.includes(conversation.name.split("-")[0]!);
}

function bytesOf(conversation: Conversation, dir: "C>" | "S>"): Uint8Array {
  const parts = conversation.segments
    .filter((segment) => segment.dir === dir)
    .map((segment) =>
      segment.hex === undefined ? Buffer.from(segment.base64 ?? "", "base64") : Buffer.from(segment.hex, "hex"),
    );
  return new Uint8Array(Buffer.concat(parts));
}

/** What the server said first. */
function greeting(conversation: Conversation): { serverId: string; isWelcome: boolean; answer: string | undefined } {
  const decoder = new Decoder(bytesOf(conversation, "S>"));
  const serverId = decoder.string();
  const isWelcome = decoder.string() === "ok";
  return { serverId, isWelcome, answer: decoder.restBytes > 0 && isWelcome ? decoder.string() : undefined };
}

/** Gives recorded bytes of one side to our other side, and returns what ours said. */
async function replay<T>(
  recorded: Uint8Array,
  seed: number,
  work: (stream: WireStream) => Promise<T>,
): Promise<{ value: T; said: Uint8Array }> {
  const pair = connectionPair({ chunkBytes: seed === 0 ? (restBytes) => restBytes : randomChunks(seed, 9000) });
  const chunks: Uint8Array[] = [];
  pair.client.setReader({ data: (chunk) => chunks.push(chunk), end: () => undefined, closed: () => undefined });
  pair.client.resume();
  pair.client.write(recorded);
  const stream = new WireStream(pair.server, { clock: new ManualClock() });
  try {
    const value = await work(stream);
    stream.endWrite();
    await settle(20);
    return { value, said: new Uint8Array(Buffer.concat(chunks)) };
  } finally {
    stream.close();
    await settle(2);
  }
}

async function asServer<T>(
  conversation: Conversation,
  seed: number,
  serve: (stream: WireStream) => Promise<T>,
): Promise<{ value: T; said: Uint8Array }> {
  return replay(bytesOf(conversation, "C>"), seed, async (stream) => {
    const hello = await readHello(stream);
    expect(hello).toEqual({ clientId: conversation.clientId, protocol: conversation.protocol, version: 1 });
    welcome(stream, greeting(conversation).serverId);
    return serve(stream);
  });
}

async function asClient<T>(
  conversation: Conversation,
  seed: number,
  run: (stream: WireStream) => Promise<T>,
): Promise<{ value: T; said: Uint8Array }> {
  return replay(bytesOf(conversation, "S>"), seed, async (stream) => {
    await greet(stream, conversation.clientId, conversation.protocol);
    return run(stream);
  });
}

const isSame = (ours: Uint8Array, theirs: Uint8Array): void => {
  const at = ours.findIndex((byte, i) => byte !== theirs[i]);
  expect({ bytes: ours.length, differsAt: at }).toEqual({ bytes: theirs.length, differsAt: -1 });
};

class BulkCollector implements BulkSink {
  readonly bulks: (Uint8Array | undefined)[] = [];
  readonly checksums: number[] = [];

  write(bulk: ReceivedBulk): void {
    this.bulks.push(bulk.kind === "zero" ? undefined : bulk.data.bytes.slice());
    this.checksums.push(bulk.kind === "zero" ? 0 : bulk.checksum);
    if (bulk.kind === "data") {
      expect(compute.checksumNow(bulk.data.bytes, 0)).toBe(bulk.checksum);
      bulk.release();
    }
  }

  async finish(): Promise<void> {}
  async abandon(): Promise<void> {}

  async *again(pool: ReturnType<typeof testPool>): AsyncGenerator<EncodedBulk> {
    for (const [i, bytes] of this.bulks.entries()) {
      if (bytes === undefined) {
        yield { kind: "zero" };
        continue;
      }
      const { lease, memory } = leaseOf(pool, bytes);
      yield { kind: "data", data: memory, checksum: this.checksums[i]!, release: () => lease.release() };
    }
  }
}

class PackCollector implements PackSink {
  readonly packs: Uint8Array[] = [];

  write(pack: ReceivedPack): void {
    this.packs.push(pack.memory.bytes.slice());
    pack.release();
  }

  async finish(): Promise<void> {}
  async abandon(): Promise<void> {}

  out(pool: ReturnType<typeof testPool>): OutgoingPack[] {
    return this.packs.map((bytes) => {
      const { lease, memory } = leaseOf(pool, bytes);
      return { memory, release: () => lease.release() };
    });
  }

  async *again(pool: ReturnType<typeof testPool>): AsyncGenerator<OutgoingPack> {
    yield* this.out(pool);
  }
}

/** Bytes of a side behind the handshake's part of it. */
function requestBytes(conversation: Conversation): Uint8Array {
  const bytes = bytesOf(conversation, "C>");
  const decoder = new Decoder(bytes);
  decoder.string();
  decoder.string();
  decoder.u32();
  return bytes.subarray(decoder.offsetBytes);
}

/** A request that is refused is still read and written as recorded, and the refusal is understood. */
function checkRefused(
  conversation: Conversation,
  take: (decoder: Decoder) => unknown,
  put: (encoder: Encoder, value: never) => void,
): void {
  const bytes = requestBytes(conversation);
  const decoder = new Decoder(bytes);
  const value = take(decoder) as never;
  isSame(
    encoded((encoder) => put(encoder, value)),
    bytes.subarray(0, decoder.offsetBytes),
  );
  const { answer } = greeting(conversation);
  const parsed = parseAnswer(answer ?? "");
  expect(parsed.kind).not.toBe("accept");
  if (parsed.kind === "text") expect(parsed.text).not.toContain("\n");
}

/** The same bytes in whatever order. */
const sortedHex = (bytes: Uint8Array): string => bytes.slice().sort().toHex();

const seeds = [0, 7];

describe.skipIf(!isThere)("data protocols of the original, both of our ends against the recorded other end", () => {
  test("full backups", async () => {
    let played = 0;
    for (const conversation of load("dirty-full-sync3")) {
      if (greeting(conversation).answer !== "accept") {
        checkRefused(conversation, takeBackupRequest, putBackupRequest);
        continue;
      }
      if (isAborted(conversation)) continue;
      for (const seed of seeds) {
        const pool = testPool();
        const sink = new BulkCollector();
        let request: ReturnType<typeof takeBackupRequest> | undefined;
        let uuid = "";
        let snapshot: Snapshot | undefined;
        const server = await asServer(conversation, seed, (stream) =>
          serveFullSync(stream, pool, {
            decide: async (asked) => {
              request = asked;
              return accept;
            },
            begin: async (logUuid) => {
              uuid = logUuid;
              return sink;
            },
            commit: async (taken) => {
              snapshot = taken;
            },
          }),
        );
        isSame(server.said, bytesOf(conversation, "S>"));
        const client = await asClient(conversation, seed, (stream) =>
          runFullSync(stream, request!, {
            accepted: async () => uuid,
            bulks: () => sink.again(pool),
            snapshot: async () => snapshot!,
          }),
        );
        isSame(client.said, bytesOf(conversation, "C>"));
        pool.expectEmpty();
        played += 1;
      }
    }
    expect(played).toBeGreaterThan(0);
  });

  test("hash backups", async () => {
    let played = 0;
    for (const conversation of load("dirty-hash-sync2")) {
      const { answer } = greeting(conversation);
      if (answer !== "accept") {
        checkRefused(conversation, takeBackupRequest, putBackupRequest);
        continue;
      }
      if (isAborted(conversation)) continue;
      const theirs = new Decoder(bytesOf(conversation, "S>"));
      for (let i = 0; i < 3; i++) theirs.string();
      const latest = takeSnapshot(theirs);
      expect(theirs.u32()).toBe(ackWord);
      const hashes: Uint8Array[] = [];
      while (theirs.u8() === 0) hashes.push(theirs.raw(16).slice());
      for (const seed of seeds) {
        const pool = testPool();
        const sink = new PackCollector();
        let request: ReturnType<typeof takeBackupRequest> | undefined;
        let uuid = "";
        let snapshot: Snapshot | undefined;
        const server = await asServer(conversation, seed, (stream) =>
          serveHashSync(
            stream,
            { pool, compute },
            {
              decide: async (asked) => {
                request = asked;
                return { kind: "accept", latest };
              },
              begin: async (logUuid) => {
                uuid = logUuid;
                return {
                  sink,
                  hashes: (async function* () {
                    yield* hashes;
                  })(),
                };
              },
              commit: async (taken) => {
                snapshot = taken;
              },
            },
          ),
        );
        isSame(server.said, bytesOf(conversation, "S>"));
        const seen: string[] = [];
        const client = await asClient(conversation, seed, (stream) =>
          runHashSync(stream, request!, {
            accepted: async () => uuid,
            comparer: () => ({
              compare: async (firstBulk, piece) => {
                expect(firstBulk).toBe(seen.length);
                for (let at = 0; at < piece.length; at += 16) seen.push(piece.subarray(at, at + 16).toHex());
                return [];
              },
              finish: async () => sink.out(pool),
            }),
            snapshot: async () => snapshot!,
          }),
        );
        expect(seen).toEqual(hashes.map((hash) => hash.toHex()));
        // The recorded client may have sent a pack before a later Dummy; the bytes are the same in another order.
        expect(sortedHex(client.said)).toBe(sortedHex(bytesOf(conversation, "C>")));
        pool.expectEmpty();
        played += 1;
      }
    }
    expect(played).toBeGreaterThan(0);
  });

  test("log transfers", async () => {
    let played = 0;
    let compressed = 0;
    for (const conversation of load("wlog-transfer")) {
      if (greeting(conversation).answer !== "accept") {
        checkRefused(conversation, takeWlogRequest, putWlogRequest);
        continue;
      }
      if (isAborted(conversation)) continue;
      for (const seed of seeds) {
        const pool = testPool();
        const batches: PackBatch[] = [];
        let request: ReturnType<typeof takeWlogRequest> | undefined;
        const received: { logPb: number; diff: ReturnType<typeof takeWdiffRequest>["diff"] }[] = [];
        const sink = { write: (batch: PackBatch) => void batches.push(batch), abandon: async () => undefined };
        const parts = { pool, compute };
        const server = await asServer(conversation, seed, (stream) =>
          serveWlogTransfer(stream, parts, {
            decide: async (asked) => {
              request = asked;
              return accept;
            },
            begin: async () => sink,
            commit: async (log) => void received.push(log),
          }),
        );
        isSame(server.said, bytesOf(conversation, "S>"));
        // The original announces exactly what it sends.
        expect(received[0]!.logPb).toBe(request!.logSizePb);
        const client = await asClient(conversation, seed, (stream) =>
          runWlogTransfer(stream, request!, parts, {
            batches: async function* () {
              yield* batches;
            },
            diff: () => received[0]!.diff,
          }),
        );
        pool.expectEmpty();
        // Padding content and compression are free: what we sent must be received as the same.
        const again: PackBatch[] = [];
        const second = await replay(client.said, seed, async (stream) => {
          await readHello(stream);
          welcome(stream, greeting(conversation).serverId);
          await serveWlogTransfer(stream, parts, {
            decide: async (asked) => {
              expect(asked).toEqual(request!);
              return accept;
            },
            begin: async () => ({ ...sink, write: (batch: PackBatch) => void again.push(batch) }),
            commit: async (log) => expect(log).toMatchObject(received[0]!),
          });
        });
        isSame(second.said, bytesOf(conversation, "S>"));
        for (const batch of again) batch.release();
        pool.expectEmpty();
        if (client.said.length === bytesOf(conversation, "C>").length) compressed += 1;
        played += 1;
      }
    }
    expect(played).toBeGreaterThan(0);
    expect(compressed).toBeGreaterThan(0);
  });

  test("diff transfers", async () => {
    let played = 0;
    for (const conversation of load("wdiff-transfer")) {
      if (greeting(conversation).answer !== "accept") {
        checkRefused(conversation, takeWdiffRequest, putWdiffRequest);
        continue;
      }
      if (isAborted(conversation)) continue;
      for (const seed of seeds) {
        const pool = testPool();
        const sink = new PackCollector();
        let request: ReturnType<typeof takeWdiffRequest> | undefined;
        const server = await asServer(conversation, seed, (stream) =>
          serveWdiffTransfer(
            stream,
            { pool, compute },
            {
              decide: async (asked) => {
                request = asked;
                return accept;
              },
              begin: async () => sink,
            },
          ),
        );
        isSame(server.said, bytesOf(conversation, "S>"));
        const client = await asClient(conversation, seed, (stream) =>
          runWdiffTransfer(stream, request!, () => sink.again(pool)),
        );
        isSame(client.said, bytesOf(conversation, "C>"));
        pool.expectEmpty();
        played += 1;
      }
    }
    expect(played).toBeGreaterThan(0);
  });

  test("newest snapshots", async () => {
    for (const conversation of load("gather-latest-snap")) {
      const theirs = new Decoder(bytesOf(conversation, "S>"));
      for (let i = 0; i < 3; i++) theirs.string();
      const values = Array.from({ length: theirs.size("count") }, () => takeLatestSnapshot(theirs));
      let volumes: readonly string[] = [];
      const server = await asServer(conversation, 7, (stream) =>
        serveLatestSnap(stream, async (asked) => {
          volumes = asked;
          return values;
        }),
      );
      isSame(server.said, bytesOf(conversation, "S>"));
      const client = await asClient(conversation, 7, (stream) => runLatestSnap(stream, volumes));
      expect(client.value).toEqual(values);
      isSame(client.said, bytesOf(conversation, "C>"));
    }
  });

  test("replications", async () => {
    let played = 0;
    for (const conversation of load("repl-sync3")) {
      if (isAborted(conversation) || greeting(conversation).answer !== "accept") continue;
      const script = readReplServer(bytesOf(conversation, "S>"), requestBytes(conversation));
      if (script === undefined) continue;
      for (const seed of seeds) {
        const pool = testPool();
        const bulks = new BulkCollector();
        const sinks: PackCollector[] = [];
        const hashStreams = script.hashes.map((list) => [...list]);
        const asked: {
          kind: "full" | "resync" | "hash" | "diff";
          request: unknown;
          sink: PackCollector | undefined;
        }[] = [];
        const nextSink = (kind: "resync" | "hash" | "diff", request: unknown): PackCollector => {
          const sink = new PackCollector();
          sinks.push(sink);
          asked.push({ kind, request, sink });
          return sink;
        };
        let hashAt = 0;
        const hashParts = (kind: "resync" | "hash", request: unknown) => {
          const list = hashStreams[hashAt++]!;
          return {
            hashes: (async function* () {
              yield* list;
            })(),
            sink: nextSink(kind, request),
          };
        };
        let stateAt = 0;
        let volume = "";
        let theirs: [string, boolean] = ["", false];
        const server = await asServer(conversation, seed, (stream) =>
          serveReplSync(
            stream,
            { pool, compute },
            {
              decide: async (name) => {
                volume = name;
                return accept;
              },
              choose: async (uuid, allowResync) => {
                theirs = [uuid, allowResync];
                return { kind: script.kind };
              },
              full: async (request) => {
                asked.push({ kind: "full", request, sink: undefined });
                return { startLb: script.startLb, sink: bulks };
              },
              resync: async (request) => hashParts("resync", request),
              hash: async (request) => hashParts("hash", request),
              diff: async (request) => ({ sink: nextSink("diff", request) }),
              latest: async () => script.states[stateAt++]!,
            },
          ),
        );
        isSame(server.said, bytesOf(conversation, "S>"));
        const turns = asked.filter(({ kind }) => kind === "hash" || kind === "diff");
        const comparer = (sink: PackCollector) => ({ compare: async () => [], finish: async () => sink.out(pool) });
        const first = asked[0];
        let turnAt = 0;
        const client = await asClient(conversation, seed, (stream) =>
          runReplSync(stream, {
            volume,
            archiveUuid: theirs[0],
            allowResync: theirs[1],
            accepted: () => undefined,
            full: async () => first!.request as never,
            bulks: () => bulks.again(pool),
            resync: async () => first!.request as never,
            resyncComparer: () => comparer(first!.sink!),
            next: async (latest): Promise<ReplTurn> => {
              expect(latest).toEqual(script.states[turnAt]!);
              const turn = turns[turnAt++];
              if (turn === undefined) return { kind: "stop" };
              const sink = turn.sink!;
              return turn.kind === "hash"
                ? { kind: "hash", request: turn.request as never, comparer: () => comparer(sink) }
                : { kind: "diff", request: turn.request as never, packs: () => sink.again(pool) };
            },
          }),
        );
        expect(sortedHex(client.said)).toBe(sortedHex(bytesOf(conversation, "C>")));
        pool.expectEmpty();
        played += 1;
      }
    }
    expect(played).toBeGreaterThan(3);
  });
});

/** What a recorded receiver of a replication decided: read off its bytes, with the turns read off the sender's. */
function readReplServer(
  said: Uint8Array,
  heard: Uint8Array,
): { kind: ReplKind; startLb: number; states: ArchiveState[]; hashes: Uint8Array[][] } | undefined {
  const decoder = new Decoder(said);
  for (let i = 0; i < 3; i++) decoder.string();
  if (decoder.string() !== "accept") return undefined;
  const kind = decoder.i32() as ReplKind;
  const hashes: Uint8Array[][] = [];
  const states: ArchiveState[] = [];
  let startLb = 0;
  const ok = (): void => expect(decoder.string()).toBe("ok");
  const ack = (): void => expect(decoder.u32()).toBe(ackWord);
  const hashList = (): void => {
    const list: Uint8Array[] = [];
    while (decoder.u8() === 0) list.push(decoder.raw(16).slice());
    hashes.push(list);
  };
  if (kind === 0) {
    ok();
    startLb = decoder.size("startLb");
    ack();
  } else if (kind === 1) {
    ok();
    hashList();
  }
  expect(heard.length).toBeGreaterThan(0);
  for (;;) {
    states.push(takeArchiveState(decoder));
    // Last comes an Ack; a turn begins with "ok", of which a hash turn goes on with a control byte and a diff with an Ack.
    const at = decoder.offsetBytes;
    if (said[at] === 0x82) {
      ack();
      expect(decoder.restBytes).toBe(0);
      return { kind, startLb, states, hashes };
    }
    ok();
    if (said[decoder.offsetBytes] === 0x82) ack();
    else hashList();
  }
}

describe.skipIf(!isThere)("commands of the original", () => {
  const files = [
    "apply",
    "archive-info",
    "bhash",
    "clear-vol",
    "dbg-dump-logpack-header",
    "del-cold",
    "del-restored",
    "disable-snapshot",
    "enable-snapshot",
    "errors",
    "exec",
    "full-bkp",
    "gc-diff",
    "get",
    "hash-bkp",
    "init-vol",
    "kick",
    "merge",
    "replicate",
    "reset-vol",
    "resize",
    "restore",
    "set-full-scan-bps",
    "shutdown",
    "sleep",
    "snapshot",
    "start",
    "status",
    "stop",
    "version",
  ];
  for (const file of files) {
    test(`${file} is read and written back to the same bytes`, () => {
      for (const conversation of load(file)) {
        const asked = bytesOf(conversation, "C>");
        const from = new Decoder(asked);
        const to = new Encoder();
        to.string(from.string()).string(from.string()).u32(from.u32());
        const { isWelcome } = greeting(conversation);
        let parameters: string[] = [];
        try {
          if (isWelcome) parameters = copyRequest(conversation.protocol, from, to);
        } catch (error) {
          // A client that was told an error early may not have sent everything.
          if (!(error instanceof ShortRead)) throw error;
        }
        // What a refused client had already sent is not part of the handshake.
        if (isWelcome) from.end(conversation.name);
        isSame(to.bytes(), asked.subarray(0, from.offsetBytes));
        const answered = bytesOf(conversation, "S>");
        const heard = new Decoder(answered);
        const said = new Encoder();
        said.string(heard.string()).string(heard.string("answer", 1 << 20));
        if (isWelcome) copyAnswer(conversation.protocol, parameters, heard, said);
        heard.end(conversation.name);
        isSame(said.bytes(), answered);
      }
    });
  }
});

test("the largest bulk of the grammar is what the original allows", () => {
  expect(bulkLbMax * 512).toBe(4 * 1024 * 1024);
});
