/** @module Sizes as people write and read them: `10G`, powers of 1024. */
import { WalbError } from "../../errors.ts";

export { formatRate, formatSize } from "../../fleet/format.ts";

const units = ["", "K", "M", "G", "T"] as const;

/** Reads `512`, `10G`, `1.5T` (also `10g`, `10GiB`) as bytes. @throws WalbError `usage`. */
export function parseSize(text: string): number {
  const match = /^(\d+)(?:\.(\d+))?([KMGT]?)(?:i?B)?$/i.exec(text.trim());
  const exponent = units.indexOf((match?.[3] ?? "").toUpperCase() as (typeof units)[number]);
  const [whole, fraction] = [match?.[1], match?.[2] ?? ""];
  if (whole !== undefined && exponent >= 0 && fraction.length <= 12) {
    const scale = 10n ** BigInt(fraction.length);
    const scaled = BigInt(whole + fraction) * 1024n ** BigInt(exponent);
    const bytes = scaled / scale;
    if (scaled % scale === 0n && bytes <= BigInt(Number.MAX_SAFE_INTEGER)) return Number(bytes);
  }
  throw new WalbError("usage", {
    what: `${JSON.stringify(text)} is not a size`,
    hint: "write bytes, or a number with K, M, G or T (powers of 1024), e.g. 10G",
  });
}
