/**
 * @module The space of a proxy's file system: what must be free before a log is let in, what the logs on their way in will
 * still take, and when people are warned. Deliveries need none of it, so that they go on and make room.
 */
import { WalbError } from "../errors.ts";
import { gib, mib } from "../units.ts";
import { noRoomText } from "../wire/words.ts";

/** Kept free beyond what a log needs, so that the databases can be written and deliveries can make room. */
const reserveBytesMax = 256 * mib;
const reserveShare = 0.02;
/** Below this much beyond the reserve the status tells that the file system fills up. */
const warnBytesMax = gib;
const warnShare = 0.1;

/** Bytes that must be free before a log is accepted, and below which people are told. */
export function spaceNeeded(logBytes: number, totalBytes: number): { neededBytes: number; warnBytes: number } {
  const reserveBytes = mib + Math.min(reserveBytesMax, Math.floor(totalBytes * reserveShare));
  const neededBytes = logBytes + reserveBytes;
  return { neededBytes, warnBytes: neededBytes + Math.min(warnBytesMax, Math.floor(totalBytes * warnShare)) };
}

/** A log on its way in: how much of what it announced is not written yet. */
export interface SpaceClaim {
  readonly restBytes: number;
}

/** Logs on their way in, over all volumes: two at once must not both count on the same space. */
export class SpaceClaims {
  readonly #claims = new Set<SpaceClaim>();

  add(claim: SpaceClaim): () => void {
    this.#claims.add(claim);
    return () => this.#claims.delete(claim);
  }

  /** Bytes that the logs on their way in will still take. */
  get restBytes(): number {
    let sum = 0;
    for (const claim of this.#claims) sum += Math.max(0, claim.restBytes);
    return sum;
  }
}

/** Where a file system is. */
interface Place {
  readonly host: string;
  readonly volume: string;
  readonly file: string;
}

const roomHint = "make room on the proxy's file system, or bring the archive back that diffs wait for: walb status";

/** What to tell of a file system whatever comes next; `isFull` when even the smallest log is refused. Pure. */
export function judgeFilling(
  space: { readonly freeBytes: number; readonly totalBytes: number },
  place: Place,
): { readonly error: WalbError; readonly isFull: boolean } | undefined {
  const { neededBytes, warnBytes } = spaceNeeded(0, space.totalBytes);
  if (space.freeBytes >= warnBytes) return undefined;
  const isFull = space.freeBytes < neededBytes;
  const freeMib = Math.floor(space.freeBytes / mib);
  const what = isFull
    ? `the proxy's file system is full: ${freeMib} MiB free, and no log is taken below ${Math.ceil(neededBytes / mib)} MiB`
    : `the proxy's file system is filling up: ${freeMib} MiB free`;
  return { error: new WalbError("no-space", { what, where: place, hint: roomHint }), isFull };
}

/** Why a log of `logBytes` may not come in, if so. Pure. */
export function judgeSpace(
  space: { readonly freeBytes: number; readonly totalBytes: number },
  logBytes: number,
  claimedBytes: number,
  place: Place,
): WalbError | undefined {
  const { neededBytes } = spaceNeeded(logBytes, space.totalBytes);
  const freeBytes = space.freeBytes - claimedBytes;
  const freeMib = Math.floor(space.freeBytes / mib);
  if (freeBytes >= neededBytes) return undefined;
  const others = claimedBytes === 0 ? "" : `, and ${Math.ceil(claimedBytes / mib)} MiB for logs on their way in`;
  const reserve = Math.ceil((neededBytes - logBytes) / mib);
  const what = `${noRoomText}the proxy has ${freeMib} MiB free, but needs ${Math.ceil(logBytes / mib)} MiB for this log and ${reserve} MiB in reserve${others}`;
  return new WalbError("no-space", { what, where: place, hint: roomHint });
}
