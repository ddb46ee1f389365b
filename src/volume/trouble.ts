/** @module What went wrong last, as every role's status tells it. */
import type { WalbError } from "../errors.ts";
import { checkVolumeId } from "./directories.ts";

/** A failure that holds until the work goes well again. */
export interface Trouble {
  readonly error: WalbError;
  /** When it last happened. */
  readonly atMs: number;
  /** When it began to; `atMs` when missing. */
  readonly sinceMs?: number | undefined;
  /** When it is tried again, if it is. */
  readonly retryAtMs?: number | undefined;
}

/** The status part of a trouble; nothing when there is none. */
export function troubleReport(trouble: Trouble | undefined): {
  trouble?: {
    code: string;
    message: string;
    hint?: string;
    peer?: string;
    step?: string;
    atMs: number;
    sinceMs: number;
    retryAtMs?: number;
  };
} {
  if (trouble === undefined) return {};
  const { error, atMs, sinceMs, retryAtMs } = trouble;
  const { peer, step } = error.where;
  return {
    trouble: {
      code: error.code,
      message: error.message,
      atMs,
      sinceMs: sinceMs ?? atMs,
      ...(peer === undefined ? {} : { peer }),
      ...(step === undefined ? {} : { step }),
      ...(error.hint === undefined ? {} : { hint: error.hint }),
      ...(retryAtMs === undefined ? {} : { retryAtMs }),
    },
  };
}

/** The status of a volume that is not there: asking is no error, so that a controller can see what is still to do. */
export function clearStatus(volume: string) {
  return { volume: checkVolumeId(volume), state: "Clear", stopState: "not-stopping" as const, running: [] };
}
