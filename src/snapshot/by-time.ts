/**
 * @module Points by time, where the clock that stamped them may have been wrong and set right. Pure.
 *
 * Gids rise always; times need not: what was written while a clock was a day behind looks a day old. A restore must not
 * take such a point for an old one in silence, and giving up old points must not take those before it along.
 */

/** Clocks are set by so much without anybody noticing, seconds. */
const slackMs = 5000;

/** What a time stands for. */
export interface PointAtTime<P> {
  /** The newest that is not after the time. */
  readonly point: P | undefined;
  /**
   * Set where the clock went back and passed the time twice: the last point before it went back, the first one behind,
   * and the newest that is not after the time before it went back.
   */
  readonly jump?: { readonly from: P; readonly to: P; readonly earlier: P | undefined };
}

/**
 * The point that a time stands for.
 * @param points oldest first. @param nowMs points of the future are known to be stamped wrong, and make no time ambiguous.
 */
export function pointAtTime<P>(
  points: readonly P[],
  timeMs: (point: P) => number,
  atMs: number,
  nowMs: number,
): PointAtTime<P> {
  const end = points.findLastIndex((point) => timeMs(point) <= atMs);
  const point = points[end];
  const isLater = (candidate: P): boolean => timeMs(candidate) > atMs + slackMs && timeMs(candidate) <= nowMs;
  const first = points.findIndex((candidate, i) => i < end && isLater(candidate));
  if (first < 0) return { point };
  const to = points.findIndex((candidate, i) => i > first && timeMs(candidate) <= atMs);
  return {
    point,
    jump: {
      from: points[to - 1]!,
      to: points[to]!,
      earlier: points.slice(0, first).findLast((p) => timeMs(p) <= atMs),
    },
  };
}

/**
 * Times of points that never fall, for judging their age: none makes a point look older than one before it. A time of the
 * future is that of the next point that has one of the past, as it cannot be later. One that is too late makes all behind
 * it look as young, until they are: how far they are apart these times do not say.
 * @param timesMs of the points, oldest first.
 */
export function risingTimes(timesMs: readonly number[], nowMs: number): number[] {
  let laterMs = nowMs;
  const past = timesMs
    .toReversed()
    .map((timeMs) => {
      if (timeMs <= nowMs) laterMs = timeMs;
      return laterMs;
    })
    .toReversed();
  let highestMs = Number.NEGATIVE_INFINITY;
  return past.map((timeMs) => {
    highestMs = Math.max(highestMs, timeMs);
    return highestMs;
  });
}
