/** @module Paths for jobs: C strings in one table of shim memory. */
import { WalbError } from "../../errors.ts";
import { withTable } from "../../native/tables.ts";

/** Lends the addresses of the paths while `use` runs. @throws WalbError `bad-parameter` for what no path can be. */
export async function withPaths<T>(paths: readonly string[], use: (addresses: number[]) => Promise<T>): Promise<T> {
  const texts = paths.map((path) => new TextEncoder().encode(path));
  for (const [i, text] of texts.entries()) {
    if (text.length > 0 && !text.includes(0)) continue;
    throw new WalbError("bad-parameter", { what: `"${paths[i]}" is not a path` });
  }
  const sizeBytes = texts.reduce((sum, { length }) => sum + length + 1, 0);
  return await withTable(sizeBytes, (table) => {
    let at = 0;
    const addresses = texts.map((text) => {
      table.bytes.set(text, at);
      table.bytes[at + text.length] = 0;
      at += text.length + 1;
      return table.address + at - text.length - 1;
    });
    return use(addresses);
  });
}
