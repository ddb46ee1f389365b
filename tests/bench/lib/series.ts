/** @module Values over time. */

export interface Sample {
  readonly atS: number;
  readonly value: number;
}

/** The largest value, and how it grows: the line of least squares through the last three quarters of the time. */
export function summarize(samples: readonly Sample[]): { readonly max: number; readonly slopePerS: number } {
  const max = Math.max(...samples.map(({ value }) => value));
  const late = samples.slice(samples.length >> 2);
  const mean = (of: (sample: Sample) => number): number => late.reduce((sum, one) => sum + of(one), 0) / late.length;
  const meanS = mean(({ atS }) => atS);
  const meanValue = mean(({ value }) => value);
  const spread = mean(({ atS }) => (atS - meanS) ** 2);
  const slopePerS = spread === 0 ? 0 : mean(({ atS, value }) => (atS - meanS) * (value - meanValue)) / spread;
  return { max, slopePerS };
}
