/** @module A storage for tests of the proxy: the client half of wlog-transfer. */
import type { Address } from "../../src/platform/net.ts";
import type { Platform } from "../../src/platform/platform.ts";
import { diffMeta, snapshot } from "../../src/snapshot/types.ts";
import { connectWire } from "../../src/wire/handshake.ts";
import type { WireStream } from "../../src/wire/stream.ts";
import { runWlogTransfer } from "../../src/wire/wlog-transfer.ts";
import { each, logPack, packBatch, type TestIo, type TestPack } from "./wire.ts";

export const logUuid = "00112233445566778899aabbccddeeff";
const logSalt = 99;

/** A log to send. */
export interface TestLog {
  readonly volume: string;
  readonly fromGid: bigint;
  readonly toGid: bigint;
  readonly ios: readonly TestIo[];
  readonly uuid?: string;
  readonly sizeLb?: number;
  readonly isMergeable?: boolean;
  readonly timestampS?: number;
  /** Announced; default what is sent. */
  readonly logSizePb?: number;
  /** Called with the open stream, to break it; and before the log is ended. */
  readonly opened?: (stream: WireStream) => void;
  readonly beforeEnd?: (stream: WireStream) => void | Promise<void>;
  readonly deadlineMs?: number;
}

/** Sends a log in packs of up to 15 writes. @throws an Error with the refusal. */
export async function sendTestLog(platform: Platform, address: Address, log: TestLog): Promise<void> {
  const packs: TestPack[] = [];
  let lsid = 0;
  for (let at = 0; at < log.ios.length; at += 15) {
    const pack = logPack(lsid, log.ios.slice(at, at + 15), 512, logSalt);
    packs.push(pack);
    lsid += 1 + pack.header.totalDataPb;
  }
  const { stream } = await connectWire(platform.net, address, {
    clock: platform.clock,
    clientId: "s0",
    protocol: "wlog-transfer",
    deadlineMs: log.deadlineMs ?? 10_000,
  });
  try {
    log.opened?.(stream);
    const request = {
      volume: log.volume,
      uuid: log.uuid ?? logUuid,
      pbsBytes: 512,
      salt: logSalt,
      sizeLb: log.sizeLb ?? 4096,
      logSizePb: log.logSizePb ?? lsid,
    };
    const batches = async function* () {
      yield* each(packs.map((pack) => packBatch(platform.memory, [pack])));
      await log.beforeEnd?.(stream);
    };
    const answer = await runWlogTransfer(
      stream,
      request,
      { pool: platform.memory, compute: platform.compute },
      {
        batches,
        diff: () =>
          diffMeta({
            from: snapshot(log.fromGid),
            to: snapshot(log.toGid),
            isMergeable: log.isMergeable ?? true,
            timestampS: log.timestampS ?? 1_700_000_000,
          }),
      },
    );
    if (answer.kind !== "accept") throw new Error(`refused: ${answer.kind === "text" ? answer.text : answer.word}`);
  } finally {
    stream.close();
  }
}
