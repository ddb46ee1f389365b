/** @module Sizes, rates and durations as people read them. */

const units = ["", "K", "M", "G", "T", "P", "E"] as const;

/** A size with three digits and a unit: `0B`, `512B`, `1.50G`, `120M`. */
export function formatSize(bytes: number): string {
  let value = bytes;
  let exponent = 0;
  while (value >= 999.5 && exponent < units.length - 1) {
    value /= 1024;
    exponent += 1;
  }
  if (exponent === 0) return `${Math.round(value)}B`;
  const digits = value < 9.995 ? 2 : value < 99.95 ? 1 : 0;
  return `${value.toFixed(digits)}${units[exponent]}`;
}

/** `120M/s`. */
export function formatRate(bytesPerS: number): string {
  return `${formatSize(bytesPerS)}/s`;
}

/** Two units at most: `0s`, `42s`, `5m 10s`, `2h 3m`, `4d 2h`. */
export function formatDuration(ms: number): string {
  if (ms > 0 && ms < 1000) return `${Math.round(ms)}ms`;
  const seconds = Math.floor(ms / 1000);
  if (seconds < 60) return `${seconds}s`;
  if (seconds < 3600) return joinUnits(Math.floor(seconds / 60), "m", seconds % 60, "s");
  if (seconds < 86_400) return joinUnits(Math.floor(seconds / 3600), "h", Math.floor((seconds % 3600) / 60), "m");
  return joinUnits(Math.floor(seconds / 86_400), "d", Math.floor((seconds % 86_400) / 3600), "h");
}

/** One unit, at most four characters below 1000 days, for tables: `95s`, `59m`, `47h`, `12d`. */
export function formatAge(ms: number): string {
  const seconds = Math.floor(ms / 1000);
  if (seconds < 120) return `${seconds}s`;
  if (seconds < 7200) return `${Math.floor(seconds / 60)}m`;
  if (seconds < 172_800) return `${Math.floor(seconds / 3600)}h`;
  return `${Math.floor(seconds / 86_400)}d`;
}

function joinUnits(large: number, largeUnit: string, small: number, smallUnit: string): string {
  return small === 0 ? `${large}${largeUnit}` : `${large}${largeUnit} ${small}${smallUnit}`;
}
