/** @module Packs, rings and vectors for tests. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { walbChecksum } from "../../src/log/checksum.ts";
import { ceilPb } from "../../src/log/geometry.ts";
import type { LogPackHeader, LogRecord, LogRecordKind } from "../../src/log/pack.ts";
import { lbBytes } from "../../src/units.ts";

/** The vectors' directory, when it is there. */
export const vectorsDir = ((): string | undefined => {
  const dir = process.env.WALB_VECTORS;
  if (dir !== undefined && existsSync(dir)) return dir;
  console.log("skipping vectors: WALB_VECTORS is not set");
  return undefined;
})();

export function vectorPath(name: string): string {
  return join(vectorsDir ?? "", name);
}

/** Bytes of a vector, expanded when it is an .xz file. */
export async function vectorBytes(name: string): Promise<Uint8Array> {
  const path = vectorPath(name);
  if (!path.endsWith(".xz")) return Bun.file(path).bytes();
  const child = Bun.spawn(["xz", "-dc", path], { stdout: "pipe" });
  const bytes = await new Response(child.stdout).bytes();
  if ((await child.exited) !== 0) throw new Error(`xz -dc ${path} failed`);
  return bytes;
}

export function fromHex(text: string): Uint8Array {
  return Uint8Array.from(Buffer.from(text.replaceAll(/\s/g, ""), "hex"));
}

/** What a test says of a record. */
export interface RecordSpec {
  readonly kind: LogRecordKind;
  readonly offsetLb?: number;
  readonly sizeLb: number;
  readonly data?: Uint8Array;
}

/** A pack with right checksums and lsids from plain records. */
export function packOf(lsid: number, specs: readonly RecordSpec[], pbsBytes: number, salt: number): LogPackHeader {
  const records: LogRecord[] = [];
  let totalDataPb = 0;
  for (const spec of specs) {
    const checksum = spec.kind === "data" ? walbChecksum(spec.data!.subarray(0, spec.sizeLb * lbBytes), salt) : 0;
    const { kind, sizeLb } = spec;
    records.push({ kind, checksum, offsetLb: spec.offsetLb ?? 0, sizeLb, lsid: lsid + 1 + totalDataPb });
    if (kind !== "discard") totalDataPb += ceilPb(sizeLb, pbsBytes);
  }
  return { lsid, totalDataPb, records };
}

/** Lets microtasks and immediates run until nothing is left of them. */
export async function settle(rounds = 4): Promise<void> {
  for (let i = 0; i < rounds; i += 1) await new Promise<void>((resolve) => setImmediate(resolve));
}
