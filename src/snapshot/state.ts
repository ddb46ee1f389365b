/**
 * @module States of an image while diffs are applied to it. Pure.
 *
 * Before the first block is written the state becomes begin(state, diffs), after the last one is durable end(state,
 * diffs). After a crash the image must get diffs that start at `from` and reach at least `to`.
 * Source: `docs/diff-algebra.md`, states.
 */
import { WalbError } from "../errors.ts";
import { applyAll, canApplyAll } from "./algebra.ts";
import { stateText } from "./text.ts";
import type { ArchiveState, DiffMeta } from "./types.ts";

/** Whether the diffs may be applied in order, and get an applying state to its end; none only to a plain state. */
export function canApplyToState(state: ArchiveState, diffs: readonly DiffMeta[]): boolean {
  if (!canApplyAll(state.from, diffs)) return false;
  return state.to === undefined || state.to.gidB <= applyAll(state.from, diffs).gidB;
}

/**
 * The state to store before the first write; an empty list changes nothing. Repeating it keeps `from`.
 * @throws WalbError `bad-parameter` unless {@link canApplyToState}.
 */
export function beginState(state: ArchiveState, diffs: readonly DiffMeta[]): ArchiveState {
  const last = diffs.at(-1);
  if (last === undefined) return state;
  requireApplicable(state, diffs);
  return { from: state.from, to: applyAll(state.from, diffs), timestampS: last.timestampS };
}

/**
 * The state to store when everything is written and durable; an empty list changes nothing.
 * @throws WalbError `bad-parameter` unless {@link canApplyToState}.
 */
export function endState(state: ArchiveState, diffs: readonly DiffMeta[]): ArchiveState {
  const last = diffs.at(-1);
  if (last === undefined) return state;
  requireApplicable(state, diffs);
  return { from: applyAll(state.from, diffs), timestampS: last.timestampS };
}

function requireApplicable(state: ArchiveState, diffs: readonly DiffMeta[]): void {
  if (canApplyToState(state, diffs)) return;
  throw new WalbError("bad-parameter", {
    what: `these ${diffs.length} diffs cannot bring the image from its state ${stateText(state)} to a new one`,
    where: { field: "diffs" },
  });
}
