/** @module Codec and level as users and the original write them: `codec[:level[:threads]]`. */
import { WalbError } from "../errors.ts";
import { Codec, type CompressOption, codecNames } from "./codec.ts";

/**
 * Parses `snappy`, `zstd:3` or `gzip:6:4`. Threads are accepted for compatibility: the pool decides.
 * @throws WalbError `bad-parameter` naming `field`.
 */
export function parseCompressOption(text: string, field = "compression"): CompressOption {
  const match = /^([a-z0-9]+)(?::([0-9]))?(?::[0-9]{1,3})?$/.exec(text);
  const name = codecNames.find((known) => known === match?.[1]);
  if (match === null || name === undefined) {
    throw new WalbError("bad-parameter", {
      what: `"${text.slice(0, 80)}" is not a compression`,
      where: { field },
      hint: `use codec[:level] with a codec of ${codecNames.join(", ")}, for example snappy or zstd:3`,
    });
  }
  return { codec: Codec[name], level: Number(match[2] ?? 0) };
}
