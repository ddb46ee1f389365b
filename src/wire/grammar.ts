/**
 * @module The grammar of command parameters. Source: `docs/protocol.md`, parameter grammar.
 *
 * As the original reads them, except that what it wraps or truncates silently is refused here.
 */
import { WalbError } from "../errors.ts";
import { checkRange, lbBytes, u64Max } from "../units.ts";
import { bulkLbMax } from "./bulk-stream.ts";
import type { HostPort } from "./meta.ts";

/** Bulk of full and hash backups when nothing is said: 256 KiB. */
export const defaultBulkLb = 512;

/** An archive's name, which becomes a file name: 1 to 128 of letters, digits, '.', '_' and '-', not starting with '.'. */
export function parseArchiveName(text: string): string {
  if (!/^[0-9A-Za-z_-][0-9A-Za-z._-]{0,127}$/.test(text)) {
    throw bad("archive", text, "is not an archive name", "a name is letters, digits, '.', '_' and '-', as in backup0");
  }
  return text;
}

/** A gid, lsid or count: unsigned decimal up to 2^64 − 1. */
export function parseU64(text: string, field: string): bigint {
  if (!/^[0-9]{1,40}$/.test(text)) throw bad(field, text, "is not a whole number", "write it in decimal, as in 12");
  const value = BigInt(text);
  if (value > u64Max) throw bad(field, text, "does not fit 64 bits", "use a smaller number");
  return value;
}

/** A number in [min, max], unsigned decimal. */
export function parseNumber(text: string, field: string, max: number = Number.MAX_SAFE_INTEGER, min = 0): number {
  const value = parseU64(text, field);
  if (value > BigInt(max) || value < BigInt(min)) {
    throw bad(field, text, "is out of range", `use a number from ${min} to ${max}`);
  }
  return Number(value);
}

const unitExponent: Readonly<Record<string, number>> = { k: 1, m: 2, g: 3, t: 4, p: 5, e: 6 };

/** Bytes with an optional unit k, m, g, t, p, e, powers of 1024; only the first letter of the unit counts. */
export function parseSizeBytes(text: string, field: string): number {
  const match = /^([0-9]{1,40})([a-zA-Z]{0,8})$/.exec(text);
  const exponent = match?.[2] === "" ? 0 : unitExponent[match?.[2]?.[0]?.toLowerCase() ?? ""];
  if (match === null || exponent === undefined) {
    throw bad(field, text, "is not a size", "write bytes, or a number with k, m, g, t, p or e, as in 64k or 10g");
  }
  const value = BigInt(match[1]!) << BigInt(10 * exponent);
  if (value > BigInt(Number.MAX_SAFE_INTEGER))
    throw bad(field, text, "is too large", "the largest size is 8p − 1 byte");
  return Number(value);
}

/** A bulk size of 512 B to 4 MiB, rounded down to logical blocks. */
export function parseBulkLb(text: string): number {
  const sizeBytes = parseSizeBytes(text, "bulk size");
  if (sizeBytes < lbBytes || sizeBytes > bulkLbMax * lbBytes) {
    throw bad("bulk size", text, "is out of range", "use 512 to 4m; the default is 256k");
  }
  return Math.floor(sizeBytes / lbBytes);
}

/** A device size, rounded down to logical blocks. */
export function parseDeviceLb(text: string): number {
  return Math.floor(parseSizeBytes(text, "size") / lbBytes);
}

/** How to stop: `f…` force, `e…` empty, anything else, or nothing, graceful. */
export type StopMode = "graceful" | "empty" | "force";

export function parseStopMode(text: string | undefined): StopMode {
  return text?.startsWith("f") ? "force" : text?.startsWith("e") ? "empty" : "graceful";
}

/** `host:port`; a literal IPv6 address in brackets, which the original cannot read. */
export function parseHostPort(text: string): HostPort {
  const match = /^(?:\[([0-9a-fA-F:.%]+)\]|([^:[\]\s]+)):([0-9]{1,5})$/.exec(text);
  if (match === null) throw bad("address", text, "is not an address", "write host:port, as in backup0:10200");
  const port = checkRange(Number(match[3]), 1, 65535, "port");
  return { host: match[1] ?? match[2]!, port };
}

function bad(field: string, text: string, problem: string, hint: string): WalbError {
  const shown = text.length > 80 ? `${text.slice(0, 80)}…` : text;
  return new WalbError("bad-parameter", { what: `${JSON.stringify(shown)} ${problem}`, where: { field }, hint });
}
