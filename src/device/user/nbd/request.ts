/** @module One NBD request: decoding and every check that needs no I/O. */
import type { ErrorCode } from "../../../errors.ts";
import { commandFlags, commands, errors, maxPayloadBytes, minBlockBytes, u16At, u32At } from "./protocol.ts";

/** A decoded request. */
export interface Request {
  readonly handleHigh: number;
  readonly handleLow: number;
  readonly type: number;
  readonly flags: number;
  /** Exact below 2^53; above, too large for any volume all the same. */
  readonly offsetBytes: number;
  readonly sizeBytes: number;
}

/** Decodes the 28 bytes behind the magic check. */
export function decodeRequest(bytes: Uint8Array, at: number): Request {
  return {
    flags: u16At(bytes, at + 4),
    type: u16At(bytes, at + 6),
    handleHigh: u32At(bytes, at + 8),
    handleLow: u32At(bytes, at + 12),
    offsetBytes: u32At(bytes, at + 16) * 0x1_0000_0000 + u32At(bytes, at + 20),
    sizeBytes: u32At(bytes, at + 24),
  };
}

/** What a request is checked against. */
export interface RequestRules {
  readonly volumeBytes: number;
  readonly isReadOnly: boolean;
  readonly isStructured: boolean;
  readonly hasAllocationContext: boolean;
}

const f = commandFlags;
/** Flags each command takes. FUA is valid everywhere and means nothing where nothing is written. */
const allowedFlags: ReadonlyMap<number, number> = new Map([
  [commands.read, f.fua | f.df],
  [commands.write, f.fua],
  [commands.flush, f.fua],
  [commands.trim, f.fua],
  [commands.cache, f.fua],
  [commands.writeZeroes, f.fua | f.noHole | f.fastZero],
  [commands.blockStatus, f.fua | f.reqOne],
]);

/** The error number a request is refused with, and why; undefined when it may go to the volume. */
export function refusal(request: Request, rules: RequestRules): { error: number; why: string } | undefined {
  const { type, flags, offsetBytes, sizeBytes } = request;
  const allowed = allowedFlags.get(type);
  if (allowed === undefined) return { error: errors.invalid, why: "unknown command" };
  const isDfAllowed = rules.isStructured || (flags & f.df) === 0;
  if ((flags & ~allowed) !== 0 || !isDfAllowed) return { error: errors.invalid, why: "flag not valid for the command" };
  const isWriting = type === commands.write || type === commands.trim || type === commands.writeZeroes;
  if (isWriting && rules.isReadOnly) return { error: errors.perm, why: "the volume is read-only" };
  if (type === commands.flush) {
    if (offsetBytes === 0 && sizeBytes === 0) return undefined;
    return { error: errors.invalid, why: "a flush has no offset and no length" };
  }
  const hasPayload = type === commands.write || type === commands.read;
  if (sizeBytes === 0) return { error: errors.invalid, why: "the length is 0" };
  if (hasPayload && sizeBytes > maxPayloadBytes) return { error: errors.invalid, why: "the length is above 32 MiB" };
  if (offsetBytes % minBlockBytes !== 0 || sizeBytes % minBlockBytes !== 0) {
    return { error: errors.invalid, why: "offset and length must be multiples of 512" };
  }
  if (offsetBytes + sizeBytes > rules.volumeBytes) {
    const error = type === commands.write || type === commands.writeZeroes ? errors.noSpace : errors.invalid;
    return { error, why: "beyond the end of the volume" };
  }
  // Zeroes are logged as data: never faster than writing them, so the honest answer to "only when fast" is no.
  if ((flags & f.fastZero) !== 0) return { error: errors.notSupported, why: "writing zeroes is not faster than data" };
  if (type === commands.blockStatus && !rules.hasAllocationContext) {
    return { error: errors.invalid, why: "no metadata context was negotiated" };
  }
  return undefined;
}

/** The NBD error number of a failure of the volume. */
export function errorNumber(code: ErrorCode): number {
  switch (code) {
    case "read-only":
      return errors.perm;
    case "no-space":
    case "log-overflow":
      return errors.noSpace;
    case "out-of-range":
    case "bad-parameter":
      return errors.invalid;
    case "cancelled":
    case "state":
      return errors.shutdown;
    default:
      return errors.io;
  }
}
