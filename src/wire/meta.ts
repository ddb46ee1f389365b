/**
 * @module Binary forms of the metadata that travels in messages and is stored in small files.
 *
 * Each type has an encoder `putX(encoder, value)` and a decoder `takeX(decoder)`; decoders check every constraint and
 * name the field. Source of the layouts: `docs/formats.md`, meta objects, and `docs/protocol.md`, compound types.
 */
import { Codec, type CompressOption } from "../native/codec.ts";
import type { ArchiveState, DiffMeta, Snapshot } from "../snapshot/types.ts";
import { u64Max } from "../units.ts";
import { badField, type Decoder, type Encoder } from "./serializer.ts";

const snapPreamble = 0x0311;
const diffPreamble = 0x0312;
const statePreamble = 0x0313;
const lsidGidPreamble = 0x0314;

/** Codec, level and the thread count the peer should use, as configured on the storage or for a proxy's archive. */
export interface CompressConfig extends CompressOption {
  /** ≥ 1. */
  readonly cpuCount: number;
}

/** Where a proxy sends diffs to. */
export interface HostPort {
  readonly host: string;
  readonly port: number;
}

/** An archive as a proxy knows it. */
export interface ArchiveTarget extends HostPort {
  readonly compress: CompressConfig;
  /** Seconds a proxy waits before it sends a diff. */
  readonly sendDelayS: number;
}

/** One volume's newest snapshot, an entry of gather-latest-snap. */
export interface LatestSnapshot {
  readonly volume: string;
  /** 2^64 − 1 when the volume is not known. */
  readonly gid: bigint;
  /** Unix seconds, 0 when not known. */
  readonly timestampS: number;
  /** undefined when not known. */
  readonly lsid: number | undefined;
}

/** A point of the log that is a snapshot (stored by the storage daemon of the original). */
export interface LsidGid {
  readonly isMergeable: boolean;
  readonly timestampS: number;
  /** undefined is 2^64 − 1. */
  readonly lsid: number | undefined;
  readonly gid: bigint;
}

export function putSnapshot(encoder: Encoder, snapshot: Snapshot): void {
  encoder.u16(snapPreamble).u64(snapshot.gidB).u64(snapshot.gidE);
}

export function takeSnapshot(decoder: Decoder, field = "snapshot"): Snapshot {
  preamble(decoder, snapPreamble, field);
  const gidB = decoder.u64();
  const gidE = decoder.u64();
  if (gidB > gidE) throw badField(`${field}.gidB`, `is ${gidB}, above gidE ${gidE}`);
  return { gidB, gidE };
}

export function putDiffMeta(encoder: Encoder, diff: DiffMeta): void {
  encoder.u16(diffPreamble).bool(diff.isMergeable).bool(diff.isCompared).u64(diff.timestampS);
  putSnapshot(encoder, diff.from);
  putSnapshot(encoder, diff.to);
  encoder.u64(diff.dataSizeBytes);
}

export function takeDiffMeta(decoder: Decoder, field = "diff"): DiffMeta {
  preamble(decoder, diffPreamble, field);
  const isMergeable = decoder.bool(`${field}.isMergeable`);
  const isCompared = decoder.bool(`${field}.isCompDiff`);
  const timestampS = decoder.size(`${field}.timestamp`);
  const from = takeSnapshot(decoder, `${field}.from`);
  const to = takeSnapshot(decoder, `${field}.to`);
  const dataSizeBytes = decoder.size(`${field}.dataSize`);
  if (from.gidB >= to.gidB) throw badField(`${field}.to.gidB`, `is ${to.gidB}, not above ${from.gidB}`);
  if (from.gidE > to.gidE) throw badField(`${field}.to.gidE`, `is ${to.gidE}, below ${from.gidE}`);
  return { isMergeable, isCompared, timestampS, from, to, dataSizeBytes };
}

/** As {@link takeDiffMeta}, and both ends must be clean, as for a diff made of a log. */
export function takeCleanDiffMeta(decoder: Decoder, field = "diff"): DiffMeta {
  const diff = takeDiffMeta(decoder, field);
  for (const end of ["from", "to"] as const) {
    const { gidB, gidE } = diff[end];
    if (gidB !== gidE) throw badField(`${field}.${end}`, `is dirty (${gidB}, ${gidE}), but must be clean`);
  }
  return diff;
}

/** The second snapshot is always written; that of a plain state repeats the first. */
export function putArchiveState(encoder: Encoder, state: ArchiveState): void {
  encoder
    .u16(statePreamble)
    .bool(state.to !== undefined)
    .u64(state.timestampS);
  putSnapshot(encoder, state.from);
  putSnapshot(encoder, state.to ?? state.from);
}

export function takeArchiveState(decoder: Decoder, field = "state"): ArchiveState {
  preamble(decoder, statePreamble, field);
  const isApplying = decoder.bool(`${field}.isApplying`);
  const timestampS = decoder.size(`${field}.timestamp`);
  const from = takeSnapshot(decoder, `${field}.from`);
  const to = takeSnapshot(decoder, `${field}.to`);
  if (!isApplying) return { from, timestampS };
  if (from.gidB >= to.gidB) {
    throw badField(`${field}.to.gidB`, `is ${to.gidB}, not above ${from.gidB}, while a diff is applied`);
  }
  return { from, to, timestampS };
}

export function putLsidGid(encoder: Encoder, value: LsidGid): void {
  encoder
    .u16(lsidGidPreamble)
    .bool(value.isMergeable)
    .u64(value.timestampS)
    .u64(value.lsid ?? u64Max)
    .u64(value.gid);
}

export function takeLsidGid(decoder: Decoder, field = "record"): LsidGid {
  preamble(decoder, lsidGidPreamble, field);
  const isMergeable = decoder.bool(`${field}.isMergeable`);
  const timestampS = decoder.size(`${field}.timestamp`);
  return { isMergeable, timestampS, lsid: takeLsid(decoder, `${field}.lsid`), gid: decoder.u64() };
}

export function putCompressConfig(encoder: Encoder, config: CompressConfig): void {
  encoder.u8(config.codec).u8(config.level).u8(config.cpuCount);
}

export function takeCompressConfig(decoder: Decoder, field = "compress"): CompressConfig {
  const codec = decoder.u8();
  const level = decoder.u8();
  const cpuCount = decoder.u8();
  if (!isCodec(codec)) throw badField(`${field}.type`, `is ${codec}, but must be 0 to 5`);
  if (level > 9) throw badField(`${field}.level`, `is ${level}, but must be 0 to 9`);
  if (cpuCount === 0) throw badField(`${field}.numCpu`, "is 0, but must be at least 1");
  return { codec, level, cpuCount };
}

function putHostPort(encoder: Encoder, address: HostPort): void {
  encoder.string(address.host).u16(address.port);
}

export function takeHostPort(decoder: Decoder, field = "address"): HostPort {
  const host = decoder.string(`${field}.host`, 1024);
  const port = decoder.u16();
  if (host === "") throw badField(`${field}.host`, "is empty");
  if (port === 0) throw badField(`${field}.port`, "is 0");
  return { host, port };
}

export function putArchiveTarget(encoder: Encoder, target: ArchiveTarget): void {
  putHostPort(encoder, target);
  putCompressConfig(encoder, target.compress);
  encoder.u32(target.sendDelayS);
}

export function takeArchiveTarget(decoder: Decoder, field = "archive"): ArchiveTarget {
  const address = takeHostPort(decoder, field);
  const compress = takeCompressConfig(decoder, `${field}.compress`);
  return { ...address, compress, sendDelayS: decoder.u32(`${field}.sendDelay`) };
}

export function putLatestSnapshot(encoder: Encoder, value: LatestSnapshot): void {
  encoder
    .string(value.volume)
    .u64(value.gid)
    .u64(value.timestampS)
    .u64(value.lsid ?? u64Max);
}

export function takeLatestSnapshot(decoder: Decoder, field = "snapshot"): LatestSnapshot {
  const volume = decoder.string(`${field}.volume`, 1024);
  if (volume === "") throw badField(`${field}.volume`, "is empty");
  const gid = decoder.u64();
  const timestampS = decoder.size(`${field}.timestamp`);
  return { volume, gid, timestampS, lsid: takeLsid(decoder, `${field}.lsid`) };
}

function takeLsid(decoder: Decoder, field: string): number | undefined {
  const lsid = decoder.u64();
  if (lsid === u64Max) return undefined;
  if (lsid > BigInt(Number.MAX_SAFE_INTEGER)) throw badField(field, `is ${lsid}, beyond what can be handled`);
  return Number(lsid);
}

function preamble(decoder: Decoder, expected: number, field: string): void {
  const found = decoder.u16();
  if (found !== expected) {
    throw badField(field, `starts with 0x${found.toString(16)}, not with 0x${expected.toString(16)}`);
  }
}

function isCodec(value: number): value is Codec {
  return value >= Codec.none && value <= Codec.zstd;
}
