/** @module What an archive tells about an apply that was begun and is not finished. */
import type { Waiting } from "../control/schemas.ts";
import { WalbError } from "../errors.ts";
import type { Trouble } from "../volume/trouble.ts";
import type { ArchiveVolume } from "./volume.ts";

/** An apply that goes on by itself. */
export interface UnfinishedApply {
  /** Why the last try failed and when the next one is; missing before the first try after a start. */
  readonly failure?: Trouble;
}

/** Nothing is wrong with the points that are left, but nothing can be merged before it is finished. */
export function applyTrouble({ name, at, store, machine, unfinishedApply }: ArchiveVolume): Trouble | undefined {
  const to = store.base?.to;
  if (to === undefined) return undefined;
  const failure = unfinishedApply?.failure;
  if (failure === undefined && machine.running("Apply") > 0) return undefined;
  const where = { volume: name, step: "apply" };
  if (failure !== undefined) {
    const { error } = failure;
    const again = failure.retryAtMs === undefined ? "it is being tried again now" : "it is tried again by itself";
    const told = new WalbError(error.code, {
      what: `an apply up to gid ${to.gidB} is not finished, points before it are gone: ${error.message}`,
      where,
      hint: error.hint === undefined ? again : `${again}; ${error.hint}`,
    });
    return { ...failure, error: told };
  }
  const what = `an apply up to gid ${to.gidB} was interrupted; points before it are gone`;
  let hint = `finish it: walb apply ${at} --before ${to.gidB}`;
  if (machine.state === "Stopped") hint = `start the volume, then it goes on: walb start ${at}`;
  else if (unfinishedApply !== undefined) hint = "it goes on by itself as soon as nothing else runs";
  return { error: new WalbError("state", { what, where, hint }), atMs: machine.sinceMs };
}

/** Why it does not move, and how it goes on; undefined while nothing is unfinished or it moves. */
export function applyWaiting(volume: ArchiveVolume): Waiting | undefined {
  const trouble = applyTrouble(volume);
  if (trouble === undefined) return undefined;
  const { error, atMs, sinceMs, retryAtMs } = trouble;
  const hint = error.hint ?? "";
  return {
    step: "apply",
    host: volume.settings.nodeId,
    sinceMs: sinceMs ?? atMs,
    why: error.message,
    next: volume.unfinishedApply === undefined ? `nothing by itself; ${hint}` : hint,
    ...(retryAtMs === undefined ? {} : { nextMs: retryAtMs }),
  };
}
