/** @module Fuzzing: mutations of valid inputs, what is demanded of a refusal, and a watch over allocations. */
import { WalbError } from "../../src/errors.ts";
import { SeededRandom } from "../../src/log/generate-random.ts";
import type { CountingPool } from "./memory-disk.ts";
import { countFrom } from "./shards.ts";

/** No single allocation for a hostile input of a few KiB may be larger. */
const allocationBytesMax = 64 * 1024 * 1024;

const interesting = [
  0, 1, 2, 3, 7, 8, 15, 16, 127, 128, 255, 256, 511, 512, 4095, 4096, 0x7fff, 0x8000, 0xffff, 0x10000,
];
const interestingWide = [0x7fff_ffff, 0x8000_0000, 0xffff_fff0, 0xffff_ffff];

/** A mutated copy: bit flips, extreme numbers, cuts, splices, repetitions, zeroed and appended ranges. */
export function mutate(original: Uint8Array, random: SeededRandom): Uint8Array {
  let bytes = original.slice();
  for (let n = random.between(1, 3); n > 0 && bytes.length > 0; n -= 1) {
    const at = random.below(bytes.length);
    const size = random.chance(0.5) ? random.between(1, 64) : random.between(1, bytes.length);
    switch (random.below(9)) {
      case 0:
      case 1:
        bytes[at] = bytes[at]! ^ (1 << random.below(8));
        break;
      case 2:
        bytes[at] = interesting[random.below(interesting.length)]! & 0xff;
        break;
      case 3:
      case 4: {
        // Fields lie on even offsets: extreme 16-, 32- and 64-bit numbers.
        const field = at - (at % 2);
        const width = [2, 4, 8][random.below(3)]!;
        if (field + width > bytes.length) break;
        const all = [...interesting, ...interestingWide];
        const value = all[random.below(all.length)]!;
        const view = new DataView(bytes.buffer);
        if (width === 2) view.setUint16(field, value & 0xffff, true);
        else if (width === 4) view.setUint32(field, value, true);
        else view.setBigUint64(field, random.chance(0.5) ? BigInt(value) : 2n ** 64n - BigInt(value), true);
        break;
      }
      case 5:
        bytes = bytes.slice(0, random.chance(0.5) ? at : at - (at % 512));
        break;
      case 6:
        bytes.copyWithin(at, random.below(bytes.length), random.below(bytes.length));
        break;
      case 7:
        bytes.fill(0, at, at + size);
        break;
      default: {
        const from = random.below(bytes.length);
        const part = bytes.slice(from, from + Math.min(size, 65536));
        const longer = new Uint8Array(bytes.length + part.length);
        longer.set(bytes.subarray(0, at));
        longer.set(part, at);
        longer.set(bytes.subarray(at), at + part.length);
        bytes = longer;
      }
    }
  }
  return bytes;
}

/** A mutated text. */
export function mutateText(text: string, random: SeededRandom): string {
  let chars = [...text];
  const alphabet = ["|", ",", "<", ">", "-", "0", "9", "M", "C", ".", " ", "", "\0", "é", "18446744073709551616", "T:"];
  for (let n = random.between(1, 3); n > 0; n -= 1) {
    const at = random.below(chars.length + 1);
    const char = alphabet[random.below(alphabet.length)]!;
    switch (random.below(5)) {
      case 0:
        chars.splice(at, 1);
        break;
      case 1:
        chars.splice(at, 0, char);
        break;
      case 2:
        chars.splice(at, 1, char);
        break;
      case 3:
        chars = chars.slice(0, at);
        break;
      default:
        chars.splice(at, 0, ...chars.slice(random.below(chars.length + 1), random.below(chars.length + 1)));
    }
  }
  return chars.join("");
}

/** Largest single typed array that was made while watched. */
class AllocationWatch {
  largestBytes = 0;
  readonly #restore: (() => void)[] = [];

  start(): void {
    const names = ["Uint8Array", "Uint32Array", "Int32Array", "Float64Array", "BigUint64Array", "ArrayBuffer"] as const;
    for (const name of names) {
      const original = globalThis[name];
      const unit = "BYTES_PER_ELEMENT" in original ? original.BYTES_PER_ELEMENT : 1;
      const construct = (args: readonly unknown[], newTarget: unknown, made: object): object => {
        if (typeof args[0] === "number") this.largestBytes = Math.max(this.largestBytes, args[0] * unit);
        return Reflect.construct(original, args, (newTarget === made ? original : newTarget) as typeof original);
      };
      const watched: object = new Proxy<object>(original, {
        construct: (_target, args: unknown[], newTarget) => construct(args, newTarget, watched),
      });
      Object.defineProperty(globalThis, name, { value: watched, configurable: true, writable: true });
      this.#restore.push(() => {
        Object.defineProperty(globalThis, name, { value: original, configurable: true, writable: true });
      });
    }
  }

  stop(): void {
    for (const restore of this.#restore.splice(0)) restore();
  }
}

/** What a fuzz run tries. */
export interface FuzzTarget {
  /** Part of all cases of the suite, as a fraction. */
  readonly share: number;
  /** Tries one case; throws a WalbError when it refuses the input, anything else when the answer is wrong. */
  readonly attempt: (random: SeededRandom, round: number) => Promise<void> | void;
  /** Pools that must be given back, and never hold more than 64 MiB. */
  readonly pools?: readonly CountingPool[];
  /** Whether a refusal must name a file; texts have none. Default true. */
  readonly hasFile?: boolean;
}

export interface FuzzCounts {
  readonly rounds: number;
  readonly refused: number;
  readonly taken: number;
}

/**
 * Runs a target. Each round has its own seed, which failures name.
 * @throws Error for an outcome that is neither right nor a refusal that says where.
 */
export async function fuzz(target: FuzzTarget): Promise<FuzzCounts> {
  const rounds = Math.ceil(countFrom("WALB_FUZZ_ROUNDS", 150_000) * target.share);
  const first = countFrom("WALB_FUZZ_FIRST", 1) - 1;
  const pools = target.pools ?? [];
  const watch = new AllocationWatch();
  let refused = 0;
  watch.start();
  try {
    for (let round = first; round < first + rounds; round += 1) {
      try {
        await target.attempt(new SeededRandom(round * 7919 + 17), round);
      } catch (error) {
        checkRefusal(error, round, target.hasFile ?? true);
        refused += 1;
      }
      for (const pool of pools) {
        if (pool.leasedBytes !== 0) throw new Error(`round ${round}: ${pool.leasedBytes} bytes were not given back`);
      }
    }
  } finally {
    watch.stop();
  }
  const leasedMaxBytes = pools.reduce((sum, pool) => sum + pool.leasedMaxBytes, 0);
  if (leasedMaxBytes > allocationBytesMax) throw new Error(`${leasedMaxBytes} bytes were leased at once`);
  if (watch.largestBytes > allocationBytesMax) throw new Error(`an array of ${watch.largestBytes} bytes was made`);
  return { rounds, refused, taken: rounds - refused };
}

function checkRefusal(error: unknown, round: number, hasFile: boolean): void {
  const fault = (what: string): Error => new Error(`round ${round}: ${what}: ${String(error)}`, { cause: error });
  if (!(error instanceof WalbError)) throw fault("not a WalbError");
  if (error.code === "internal" || error.code === "io") throw fault(`code ${error.code}`);
  if (hasFile && error.where.file === undefined) throw fault("no file is named");
  if (error.where.field === undefined && error.where.offsetBytes === undefined) throw fault("neither field nor offset");
}
