import { describe, expect, test } from "bun:test";
import type { PackBatch } from "../../src/log/batch.ts";
import { walbChecksum } from "../../src/log/checksum.ts";
import { Codec } from "../../src/native/codec.ts";
import type { MemoryPool } from "../../src/native/memory.ts";
import type { ArchiveState, DiffMeta, Snapshot } from "../../src/snapshot/types.ts";
import type { BulkSink, EncodedBulk, ReceivedBulk } from "../../src/wire/bulk-stream.ts";
import { readParameters } from "../../src/wire/commands.ts";
import { type BackupRequest, runFullSync, serveFullSync } from "../../src/wire/full-sync.ts";
import type { HashComparer } from "../../src/wire/hash-stream.ts";
import { runHashSync, serveHashSync } from "../../src/wire/hash-sync.ts";
import { runLatestSnap, serveLatestSnap } from "../../src/wire/latest-snap.ts";
import type { LatestSnapshot } from "../../src/wire/meta.ts";
import type { OutgoingPack, PackSink, ReceivedPack } from "../../src/wire/pack-stream.ts";
import { ReplKind, type ReplServer, type ReplTurn, runReplSync, serveReplSync } from "../../src/wire/repl-sync.ts";
import { runBhash, runVirtualScan, serveBhash, serveVirtualScan } from "../../src/wire/scan.ts";
import type { WireStream } from "../../src/wire/stream.ts";
import { runWdiffTransfer, serveWdiffTransfer, type WdiffRequest } from "../../src/wire/wdiff-transfer.ts";
import { runWlogTransfer, serveWlogTransfer, type WlogRequest } from "../../src/wire/wlog-transfer.ts";
import { accept, refuse, refuseWith } from "../../src/wire/words.ts";
import { type PairOptions, randomChunks } from "../helpers/connection-pair.ts";
import {
  compute,
  converse,
  diffPack,
  each,
  leaseOf,
  logPack,
  packBatch,
  payload,
  resultOf,
  streamPair,
  type TestPack,
  testPool,
} from "../helpers/wire.ts";

const uuid = "000102030405060708090a0b0c0d0e0f";
const archiveUuid = "f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff";
const compress = { codec: Codec.none, level: 0, cpuCount: 1 };
const request: BackupRequest = {
  hostType: "storage",
  volume: "v0",
  sizeLb: 20,
  timestampS: 1_700_000_000,
  bulkLb: 8,
  compress,
};
const clean = (gid: bigint): Snapshot => ({ gidB: gid, gidE: gid });
const diff: DiffMeta = {
  from: clean(5n),
  to: clean(6n),
  isMergeable: true,
  isCompared: false,
  timestampS: 1_700_000_001,
  dataSizeBytes: 0,
};

/** A volume of 20 LB: data, zeroes, and a short last bulk. */
const volumeBulks: (Uint8Array | undefined)[] = [payload(8 * 512, 1), undefined, payload(4 * 512, 2)];

function bulksOf(pool: MemoryPool, startBulk = 0): AsyncIterable<EncodedBulk> {
  const bulks = volumeBulks.slice(startBulk);
  return (async function* (): AsyncGenerator<EncodedBulk> {
    for (const bytes of bulks) {
      if (bytes === undefined) {
        yield { kind: "zero" };
        continue;
      }
      const { lease, memory } = leaseOf(pool, bytes);
      yield { kind: "data", data: memory, checksum: walbChecksum(bytes, 0), release: () => lease.release() };
    }
  })();
}

/** Collects bulks like an image would: verified, and written later than they came. */
class ImageSink implements BulkSink {
  readonly bytes = new Uint8Array(20 * 512).fill(0xee);
  isFinished = false;
  isAbandoned = false;
  #pending: Promise<void>[] = [];

  write(bulk: ReceivedBulk): void {
    const at = bulk.offsetLb * 512;
    if (bulk.kind === "zero") {
      this.bytes.fill(0, at, at + bulk.sizeLb * 512);
      return;
    }
    this.#pending.push(
      (async () => {
        await Promise.resolve();
        const isGood = walbChecksum(bulk.data.bytes, 0) === bulk.checksum;
        if (isGood) this.bytes.set(bulk.data.bytes, at);
        bulk.release();
        if (!isGood) throw new Error("checksum");
      })(),
    );
  }

  async finish(): Promise<void> {
    await Promise.all(this.#pending);
    this.isFinished = true;
  }

  async abandon(): Promise<void> {
    await Promise.allSettled(this.#pending);
    this.isAbandoned = true;
  }
}

/** Collects packs. */
class DiffSink implements PackSink {
  readonly packs: Uint8Array[] = [];
  isFinished = false;
  isAbandoned = false;

  write(pack: ReceivedPack): void {
    this.packs.push(pack.memory.bytes.slice());
    pack.release();
  }

  async finish(): Promise<void> {
    this.isFinished = true;
  }

  async abandon(): Promise<void> {
    this.isAbandoned = true;
  }
}

function outgoing(pool: MemoryPool, bytes: Uint8Array, isInPieces = false): OutgoingPack {
  const { lease, memory } = leaseOf(pool, bytes);
  const release = (): void => lease.release();
  if (!isInPieces) return { memory, release };
  return { pieces: [memory.slice(0, 4096), memory.slice(4096, bytes.length - 4096)], release };
}

const packs = [
  diffPack([
    { addressLb: 0, blocksLb: 2, data: payload(1024, 1) },
    { addressLb: 4, blocksLb: 1, data: undefined },
  ]),
  diffPack([{ addressLb: 5, blocksLb: 15, data: payload(15 * 512, 3) }]),
];

const packsFrom = async function* (pool: MemoryPool): AsyncGenerator<OutgoingPack> {
  for (const [i, bytes] of packs.entries()) yield outgoing(pool, bytes, i === 1);
};

const salt = 0x1234_5678;

function testLog(pbsBytes: number): TestPack[] {
  const first = logPack(
    40,
    [
      { kind: "data", offsetLb: 0, sizeLb: 1, data: payload(512, 1) },
      { kind: "discard", offsetLb: 8, sizeLb: 12 },
      { kind: "data", offsetLb: 3, sizeLb: 9, data: payload(9 * 512, 2) },
      { kind: "padding", offsetLb: 0, sizeLb: (pbsBytes / 512) * 5 },
    ],
    pbsBytes,
    salt,
  );
  const next = 41 + first.header.totalDataPb;
  const second = logPack(next, [{ kind: "discard", offsetLb: 0, sizeLb: 4 }], pbsBytes, salt);
  const zeroes = new Uint8Array(4096);
  const third = logPack(next + 1, [{ kind: "data", offsetLb: 12, sizeLb: 8, data: zeroes }], pbsBytes, salt);
  return [first, second, third];
}

/** What a log sink got, flattened: packs can be cut into parts. */
class LogCollector {
  readonly records: { offsetLb: number; sizeLb: number; kind: string; data: string }[] = [];
  headers = 0;
  endLsid = 0;
  isAbandoned = false;

  write(batch: PackBatch): void {
    for (const part of batch.parts) {
      if (part.headerMemory !== undefined) this.headers += 1;
      part.data.forEach((memory, i) => {
        const record = part.header.records[part.firstRecord + i]!;
        const { kind, offsetLb, sizeLb } = record;
        const data = kind === "data" ? memory!.bytes.subarray(0, sizeLb * 512).toHex() : "";
        this.records.push({ kind, offsetLb, sizeLb, data });
      });
    }
    this.endLsid = batch.endLsid;
    batch.release();
  }

  async abandon(): Promise<void> {
    this.isAbandoned = true;
  }
}

/** One scenario: both ends, and what must hold when nothing fails. */
interface Scenario {
  client(stream: WireStream, pool: MemoryPool): Promise<unknown>;
  server(stream: WireStream, pool: MemoryPool): Promise<unknown>;
  check(): void;
}

function fullSync(): Scenario {
  const sink = new ImageSink();
  let committed: Snapshot | undefined;
  let begun = "";
  const progress: number[] = [];
  return {
    client: async (stream, pool) =>
      expect(
        await runFullSync(stream, request, {
          accepted: async () => uuid,
          bulks: () => bulksOf(pool),
          snapshot: async () => ({ gidB: 0n, gidE: 1n }),
          progress: (doneLb) => progress.push(doneLb),
        }),
      ).toEqual(accept),
    server: (stream, pool) =>
      serveFullSync(stream, pool, {
        decide: async (asked) => {
          expect(asked).toEqual(request);
          return accept;
        },
        begin: async (logUuid) => {
          begun = logUuid;
          return sink;
        },
        commit: async (snapshot) => {
          expect(sink.isFinished).toBe(true);
          committed = snapshot;
        },
      }),
    check: () => {
      expect(begun).toBe(uuid);
      expect(committed).toEqual({ gidB: 0n, gidE: 1n });
      expect(progress).toEqual([8, 16, 20]);
      const expected = new Uint8Array(20 * 512);
      expected.set(volumeBulks[0]!);
      expected.set(volumeBulks[2]!, 16 * 512);
      expect(sink.bytes.toHex()).toBe(expected.toHex());
    },
  };
}

/** Hashes 1, 2, 3 …, one 16-byte value a bulk; the comparer finds bulks 0 and 2 different. */
function comparerOf(pool: MemoryPool, seen: string[]): HashComparer {
  return {
    compare: async (firstBulk, hashes) => {
      for (let at = 0; at < hashes.length; at += 16) seen.push(`${firstBulk + at / 16}:${hashes[at]}`);
      return firstBulk === 0 ? [outgoing(pool, packs[0]!)] : [];
    },
    finish: async () => [outgoing(pool, packs[1]!)],
  };
}

const hashes = (): AsyncIterable<Uint8Array> =>
  each([new Uint8Array(32).fill(1, 0, 16).fill(2, 16), new Uint8Array(16).fill(3)]);

function hashSync(): Scenario {
  const sink = new DiffSink();
  const seen: string[] = [];
  let committed: Snapshot | undefined;
  return {
    client: async (stream, pool) =>
      expect(
        await runHashSync(stream, request, {
          accepted: async (latest) => {
            expect(latest).toEqual({ gidB: 3n, gidE: 9n });
            return uuid;
          },
          comparer: () => comparerOf(pool, seen),
          snapshot: async () => ({ gidB: 10n, gidE: 12n }),
        }),
      ).toEqual(accept),
    server: (stream, pool) =>
      serveHashSync(
        stream,
        { pool, compute },
        {
          decide: async () => ({ kind: "accept", latest: { gidB: 3n, gidE: 9n } }),
          begin: async () => ({ hashes: hashes(), sink }),
          commit: async (snapshot) => {
            expect(sink.isFinished).toBe(true);
            committed = snapshot;
          },
        },
      ),
    check: () => {
      expect(seen).toEqual(["0:1", "1:2", "2:3"]);
      expect(committed).toEqual({ gidB: 10n, gidE: 12n });
      expect(sink.packs.map((bytes) => bytes.toHex())).toEqual(packs.map((bytes) => bytes.toHex()));
    },
  };
}

function wlogTransfer(pbsBytes: number): Scenario {
  const log = testLog(pbsBytes);
  const sink = new LogCollector();
  let committed: unknown;
  const logPb = log.reduce((sum, pack) => sum + 1 + pack.header.totalDataPb, 0);
  const asked: WlogRequest = { volume: "v0", uuid, pbsBytes, salt, sizeLb: 20, logSizePb: logPb };
  return {
    client: async (stream, pool) =>
      expect(
        await runWlogTransfer(
          stream,
          asked,
          { pool, compute },
          {
            batches: () =>
              (async function* (): AsyncGenerator<PackBatch> {
                yield packBatch(pool, log.slice(0, 2));
                yield packBatch(pool, log.slice(2));
              })(),
            diff: () => diff,
          },
        ),
      ).toEqual(accept),
    server: (stream, pool) =>
      serveWlogTransfer(
        stream,
        { pool, compute },
        {
          decide: async (seen) => {
            expect(seen).toEqual(asked);
            return accept;
          },
          begin: async () => sink,
          commit: async (received) => {
            committed = received;
          },
        },
      ),
    check: () => {
      const last = log[2]!.header;
      expect(committed).toEqual({ diff, endLsid: last.lsid + 1 + last.totalDataPb, packs: 3, logPb });
      expect(sink.endLsid).toBe(last.lsid + 1 + last.totalDataPb);
      expect(sink.headers).toBe(3);
      const expected = log.flatMap((pack) =>
        pack.header.records.map(({ kind, offsetLb, sizeLb }, i) => ({
          kind,
          offsetLb,
          sizeLb,
          data: kind === "data" ? pack.data[i]!.subarray(0, sizeLb * 512).toHex() : "",
        })),
      );
      expect(sink.records).toEqual(expected);
    },
  };
}

const wdiffRequest: WdiffRequest = { volume: "v0", hostType: "proxy", uuid, maxIoLb: 0, sizeLb: 20, diff };

function wdiffTransfer(): Scenario {
  const sink = new DiffSink();
  return {
    client: async (stream, pool) =>
      expect(await runWdiffTransfer(stream, wdiffRequest, () => packsFrom(pool))).toEqual(accept),
    server: (stream, pool) =>
      serveWdiffTransfer(
        stream,
        { pool, compute },
        {
          decide: async (asked) => {
            expect(asked).toEqual(wdiffRequest);
            return accept;
          },
          begin: async () => sink,
        },
      ),
    check: () => {
      expect(sink.isFinished).toBe(true);
      expect(sink.packs.map((bytes) => bytes.toHex())).toEqual(packs.map((bytes) => bytes.toHex()));
    },
  };
}

/** FULL resumed at bulk 1, or RESYNC, then a hash turn and a diff turn. */
function replSync(kind: ReplKind): Scenario {
  const image = new ImageSink();
  const resynced = new DiffSink();
  const hashed = new DiffSink();
  const applied = new DiffSink();
  const seen: string[] = [];
  const asked: unknown[] = [];
  const base: ArchiveState = { from: clean(5n), timestampS: 7 };
  const states: ArchiveState[] = [
    base,
    { from: clean(6n), timestampS: 8 },
    { from: clean(7n), to: clean(9n), timestampS: 9 },
  ];
  const full = { sizeLb: 20, bulkLb: 8, base, uuid, compress };
  const resync = { ...full, hashSeed: 0xffff_fff0 };
  const hash = { sizeLb: 20, bulkLb: 8, diff: { ...diff, isCompared: true }, uuid, compress, hashSeed: 99 };
  const last = { sizeLb: 20, uuid, diff };
  const latests: ArchiveState[] = [];
  let stateAt = 0;
  const server: ReplServer = {
    decide: async (volume) => {
      asked.push(volume);
      return accept;
    },
    choose: async (theirUuid, allowResync) => {
      asked.push(theirUuid, allowResync);
      return { kind };
    },
    full: async (one, theirUuid) => {
      asked.push(one, theirUuid);
      return { startLb: 8, sink: image };
    },
    resync: async (one) => {
      asked.push(one);
      return { hashes: hashes(), sink: resynced };
    },
    hash: async (one) => {
      asked.push(one);
      return { hashes: hashes(), sink: hashed };
    },
    diff: async (one) => {
      asked.push(one);
      return { sink: applied };
    },
    latest: async () => states[stateAt++]!,
  };
  return {
    client: async (stream, pool) => {
      const turns: ReplTurn[] = [
        { kind: "hash", request: hash, comparer: () => comparerOf(pool, seen) },
        { kind: "diff", request: last, packs: () => packsFrom(pool) },
        { kind: "stop" },
      ];
      const { answer, step } = await runReplSync(stream, {
        volume: "v0",
        archiveUuid,
        allowResync: true,
        accepted: () => undefined,
        full: async () => full,
        bulks: (startLb) => bulksOf(pool, startLb / 8),
        resync: async () => resync,
        resyncComparer: () => comparerOf(pool, seen),
        next: async (latest) => turns[latests.push(latest) - 1]!,
      });
      expect([answer, step]).toEqual([accept, "end"]);
    },
    server: (stream, pool) => serveReplSync(stream, { pool, compute }, server),
    check: () => {
      expect(latests).toEqual(states);
      const begin =
        kind === ReplKind.full ? [full, archiveUuid] : kind === ReplKind.resync ? [{ ...resync, archiveUuid }] : [];
      expect(asked).toEqual(["v0", archiveUuid, true, ...begin, hash, last]);
      if (kind === ReplKind.full) expect(image.bytes.subarray(16 * 512).toHex()).toBe(volumeBulks[2]!.toHex());
      if (kind === ReplKind.full) expect(image.bytes[0]).toBe(0xee);
      expect(resynced.packs).toHaveLength(kind === ReplKind.resync ? 2 : 0);
      expect(hashed.packs).toHaveLength(2);
      expect(applied.packs.map((bytes) => bytes.toHex())).toEqual(packs.map((bytes) => bytes.toHex()));
    },
  };
}

function latestSnap(): Scenario {
  const values: LatestSnapshot[] = [
    { volume: "v0", gid: 9n, timestampS: 1_795_166_214, lsid: undefined },
    { volume: "zz", gid: 2n ** 64n - 1n, timestampS: 0, lsid: 77 },
  ];
  let got: LatestSnapshot[] = [];
  return {
    client: async (stream) => {
      got = await runLatestSnap(stream, ["v0", "zz"]);
    },
    server: (stream) =>
      serveLatestSnap(stream, async (volumes) => {
        expect(volumes).toEqual(["v0", "zz"]);
        return values;
      }),
    check: () => expect(got).toEqual(values),
  };
}

function virtualScan(): Scenario {
  const got: string[] = [];
  let isFinished = false;
  return {
    client: (stream, pool) =>
      runVirtualScan(stream, ["v0", "5"], 8, pool, {
        begin: (sizeLb) => void got.push(`size ${sizeLb}`),
        write: (bulk) => {
          got.push(`${bulk.offsetLb}+${bulk.sizeLb} ${bulk.data?.bytes.toHex() ?? "zero"}`);
          bulk.release();
        },
        finish: async () => {
          isFinished = true;
        },
        abandon: async () => undefined,
      }),
    server: async (stream, pool) => {
      expect(await readParameters(stream)).toEqual(["v0", "5"]);
      const bulks = volumeBulks.map((bytes) => {
        if (bytes === undefined) return { data: undefined, release: () => undefined };
        return { bytes, data: undefined, release: () => undefined };
      });
      await serveVirtualScan(stream, 20, 8, async function* () {
        for (const bulk of bulks) {
          if (!("bytes" in bulk)) yield bulk;
          else {
            const { lease, memory } = leaseOf(pool, bulk.bytes);
            yield { data: memory, release: () => lease.release() };
          }
        }
      });
    },
    check: () => {
      expect(isFinished).toBe(true);
      expect(got).toEqual(["size 20", `0+8 ${volumeBulks[0]!.toHex()}`, "8+8 zero", `16+4 ${volumeBulks[2]!.toHex()}`]);
    },
  };
}

const scenarios: Record<string, () => Scenario> = {
  "dirty-full-sync3": fullSync,
  "dirty-hash-sync2": hashSync,
  "wlog-transfer with PB of 512": () => wlogTransfer(512),
  "wlog-transfer with PB of 4096": () => wlogTransfer(4096),
  "wdiff-transfer": wdiffTransfer,
  "repl-sync3 with a resumed full copy": () => replSync(ReplKind.full),
  "repl-sync3 with a resynchronization": () => replSync(ReplKind.resync),
  "repl-sync3 with diffs only": () => replSync(ReplKind.hashOrDiff),
  "gather-latest-snap": latestSnap,
  "virt-full-scan": virtualScan,
};

async function play(scenario: Scenario, options: PairOptions): Promise<{ isGood: boolean; bytes: [number, number] }> {
  const pool = testPool();
  const pair = streamPair(options);
  const [client, server] = await converse(
    pair,
    (stream) => scenario.client(stream, pool),
    (stream) => scenario.server(stream, pool),
  );
  pool.expectEmpty();
  const isCut = options.cutClientAfterBytes !== undefined || options.cutServerAfterBytes !== undefined;
  if (!isCut) {
    resultOf(client);
    resultOf(server);
    scenario.check();
  }
  return {
    isGood: client.status === "fulfilled" && server.status === "fulfilled",
    bytes: [pair.clientEnd.deliveredBytes, pair.serverEnd.deliveredBytes],
  };
}

for (const [name, make] of Object.entries(scenarios)) {
  describe(name, () => {
    test("moves everything, whatever the chunks are", async () => {
      await play(make(), {});
      await play(make(), { chunkBytes: () => 1 });
      for (let seed = 1; seed <= 12; seed++) await play(make(), { chunkBytes: randomChunks(seed, seed * 400) });
    });

    test("a connection that breaks at any byte never looks complete, hangs or leaks memory", async () => {
      const whole = await play(make(), {});
      for (const side of [0, 1] as const) {
        const totalBytes = whole.bytes[side];
        // Every byte of the small messages, and a sample of the bulk data.
        const step = Math.max(1, Math.floor(totalBytes / 400));
        for (let cut = 0; cut < totalBytes; cut += totalBytes - cut < 80 || cut < 80 ? 1 : step) {
          const options = side === 0 ? { cutClientAfterBytes: cut } : { cutServerAfterBytes: cut };
          const { isGood } = await play(make(), options);
          expect({ side, cut, isGood }).toEqual({ side, cut, isGood: false });
        }
      }
    }, 300_000);
  });
}

describe("refusals", () => {
  test("a refusal word reaches the proxy as a word, a text as one line", async () => {
    for (const [decision, expected] of [
      [refuseWith("too-old-diff"), { kind: "word", word: "too-old-diff" }],
      [refuse(new Error("no\nstack")), { kind: "text", text: "no stack" }],
      [{ kind: "text", text: "stopped" } as const, { kind: "text", text: "error: stopped" }],
    ] as const) {
      const pool = testPool();
      const [client] = await converse(
        streamPair(),
        (stream) => runWdiffTransfer(stream, wdiffRequest, () => packsFrom(pool)),
        (stream) =>
          serveWdiffTransfer(
            stream,
            { pool, compute },
            {
              decide: async () => decision,
              begin: () => Promise.reject(new Error("not accepted")),
            },
          ),
      );
      expect(resultOf(client)).toEqual(expected);
      pool.expectEmpty();
    }
  });

  test("a replication that would need a resynchronization is refused in its second answer", async () => {
    const pool = testPool();
    const scenario = replSync(ReplKind.full);
    const [client] = await converse(
      streamPair(),
      (stream) =>
        runReplSync(stream, { volume: "v0", archiveUuid, allowResync: false, accepted: () => undefined } as never),
      (stream) =>
        serveReplSync(stream, { pool, compute }, {
          decide: async () => accept,
          choose: async () => ({ refusal: { kind: "text", text: "resync needed but not allowed" } }),
        } as never),
    );
    const answer = { kind: "text", text: "resync needed but not allowed" } as const;
    expect(resultOf(client)).toEqual({ answer, step: "kind" });
    expect(scenario).toBeDefined();
  });

  for (const [what, kind, allowResync, states, error] of [
    ["never gets further", ReplKind.hashOrDiff, false, [5n, 5n], "it is at gid 5 although"],
    ["goes back", ReplKind.hashOrDiff, false, [5n, 4n], "it is at gid 4 although"],
    ["is beyond any history", ReplKind.hashOrDiff, false, [2n ** 60n], "no history has a gid"],
    ["resynchronizes unasked", ReplKind.resync, false, [], "a resync was not allowed"],
  ] as const) {
    test(`a receiver that ${what} ends the replication`, async () => {
      const pool = testPool();
      let stateAt = 0;
      let turns = 0;
      const [client] = await converse(
        streamPair(),
        (stream) =>
          runReplSync(stream, {
            volume: "v0",
            archiveUuid,
            allowResync,
            accepted: () => undefined,
            next: async () => {
              turns += 1;
              return { kind: "diff", request: { sizeLb: 20, uuid, diff }, packs: () => packsFrom(pool) };
            },
          } as never),
        (stream) =>
          serveReplSync(stream, { pool, compute }, {
            decide: async () => accept,
            choose: async () => ({ kind }),
            diff: async () => ({ sink: new DiffSink() }),
            latest: async () => ({ from: clean(states[stateAt++] ?? 0n), timestampS: 7 }),
          } as never),
      );
      expect(client.status === "rejected" && client.reason).toMatchObject({ code: "protocol" });
      expect(client.status === "rejected" && String(client.reason)).toContain(error);
      expect(turns).toBe(Math.max(0, states.length - 1));
      pool.expectEmpty();
    });
  }
});

describe("bhash", () => {
  const hash = payload(16, 3);

  test("shows signs of life while it works, then the hash", async () => {
    const pair = streamPair();
    let finish: (value: Uint8Array) => void = () => undefined;
    const work = new Promise<Uint8Array>((resolve) => {
      finish = resolve;
    });
    const both = converse(
      pair,
      (stream) => runBhash(stream, ["v0", "3"]),
      async (stream) => {
        await readParameters(stream);
        await serveBhash(stream, () => work);
      },
    );
    await pair.clock.advance(3500);
    const before = pair.serverEnd.deliveredBytes;
    finish(hash);
    const [client, server] = await both;
    resultOf(server);
    expect(resultOf(client)).toEqual(hash);
    expect(before).toBe(7 + 3);
  });

  test("a failure is told behind End, and the text of the original without End is understood too", async () => {
    const [client] = await converse(
      streamPair(),
      (stream) => runBhash(stream, ["v0", "3"]),
      async (stream) => {
        await readParameters(stream);
        await serveBhash(stream, () => Promise.reject(new Error("no such gid")));
      },
    );
    expect(client.status === "rejected" && String(client.reason)).toContain("no such gid");
    const [other] = await converse(
      streamPair(),
      (stream) => runBhash(stream, ["v0", "3"]),
      async (stream) => {
        await readParameters(stream);
        stream.put((encoder) => encoder.string("accept").string("bad gid, says the original, with a long text"));
        await stream.flush();
      },
    );
    expect(other.status === "rejected" && String(other.reason)).toContain("bad gid");
  });
});
