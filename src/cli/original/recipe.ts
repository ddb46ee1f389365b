/**
 * @module IO recipes: what was written to a device, one `offset size checksum` a line (blocks, blocks, hex of the walb
 * checksum with salt 0), to be found again in a log.
 */
import { WalbError } from "../../errors.ts";
import { wholeLsid } from "../../log/lsid.ts";
import type { LogPackHeader } from "../../log/pack.ts";

/** One write. */
export interface RecipeIo {
  readonly offsetLb: number;
  readonly sizeLb: number;
  readonly checksum: number;
}

/** Volumes end here, so that every byte offset is exact. */
const endLbMax = 2 ** 44 - 1;

/** Reads a recipe. @throws WalbError `bad-format` naming the line. */
export function parseRecipe(text: string, file: string): RecipeIo[] {
  const ios: RecipeIo[] = [];
  for (const [i, line] of text.split("\n").entries()) {
    if (line.trim() === "") continue;
    const match = /^\s*(\d{1,15})\s+(\d{1,10})\s+([0-9a-fA-F]{1,8})\s*$/.exec(line);
    if (match === null) {
      throw new WalbError("bad-format", {
        what: `line ${i + 1} is no write: ${JSON.stringify(line.slice(0, 80))}`,
        where: { file, field: "recipe" },
        hint: "a line is offset and size in blocks and the checksum in hex: 1024 8 1fe3a870",
      });
    }
    const io = { offsetLb: Number(match[1]), sizeLb: Number(match[2]), checksum: Number.parseInt(match[3]!, 16) };
    if (io.offsetLb + io.sizeLb > endLbMax) {
      const what = `line ${i + 1} ends at block ${io.offsetLb + io.sizeLb}, beyond all volumes`;
      throw new WalbError("bad-format", { what, where: { file, field: "recipe" } });
    }
    ios.push(io);
  }
  return ios;
}

/** Compares the writes of a log with a recipe, in order. */
export class RecipeCheck {
  readonly #recipe: readonly RecipeIo[];
  readonly #onBad: (text: string) => void;
  #next = 0;
  bad = 0;

  constructor(recipe: readonly RecipeIo[], onBad: (text: string) => void) {
    this.#recipe = recipe;
    this.#onBad = onBad;
  }

  /** Takes the writes of a pack. @param salt of the log. */
  add(header: LogPackHeader, salt: number, lsidBase = 0n): void {
    for (const { kind, offsetLb, sizeLb, checksum, lsid } of header.records) {
      if (kind !== "data") continue;
      // Checksums are negated sums that start at the salt.
      const unsalted = (checksum + salt) >>> 0;
      const io = this.#recipe[this.#next];
      this.#next += 1;
      if (io?.offsetLb === offsetLb && io.sizeLb === sizeLb && io.checksum === unsalted) continue;
      this.#fail(
        `lsid ${wholeLsid(lsid, lsidBase)}: ${text({ offsetLb, sizeLb, checksum: unsalted })} expected ${text(io)}`,
      );
    }
  }

  /** What the log does not have. */
  end(): void {
    for (const io of this.#recipe.slice(this.#next)) this.#fail(`missing: ${text(io)}`);
    this.#next = this.#recipe.length;
  }

  #fail(what: string): void {
    this.bad += 1;
    this.#onBad(what);
  }
}

function text(io: RecipeIo | undefined): string {
  return io === undefined ? "nothing" : `${io.offsetLb} ${io.sizeLb} ${io.checksum.toString(16).padStart(8, "0")}`;
}
