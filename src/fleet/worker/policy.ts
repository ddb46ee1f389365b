/** @module What the worker is to do: the table `[worker]` of the fleet file, and the rules of each volume. Pure. */
import { z } from "zod";
import { compressionSchema } from "../../control/schemas.ts";
import { WalbError } from "../../errors.ts";
import { gib } from "../../units.ts";

/** What a value must be, in words: those of a union say nothing. */
const textOrNumber = (what: string) =>
  z.union([z.string(), z.int().positive()], {
    error: ({ input }) => `${input === undefined ? "it is missing" : `${JSON.stringify(input)} is none`}: ${what}`,
  });
const periodSchema = textOrNumber('a time like "10m" or "14d", or a number of seconds above 0');
const sizeSchema = textOrNumber('a size like "128M" or "1G", or a number of bytes above 0');

/** The table as it is written. */
export const workerTableSchema = z.strictObject({
  "max-tasks": z.int().min(1).max(64).optional(),
  "max-replications": z.int().min(1).max(64).optional(),
  poll: periodSchema.optional(),
  /** For volumes without `keep`. */
  apply: z.strictObject({ keep: periodSchema, every: periodSchema.optional() }).optional(),
  merge: z
    .strictObject({
      every: periodSchema,
      "max-size": sizeSchema.optional(),
      "max-count": z.int().min(1).optional(),
      threshold: z.int().min(2).optional(),
    })
    .optional(),
  replicate: z
    .strictObject({
      every: periodSchema.optional(),
      "max-send": sizeSchema.optional(),
      "max-merge": sizeSchema.optional(),
      compress: compressionSchema.optional(),
    })
    .optional(),
});
export type WorkerTable = z.output<typeof workerTableSchema>;

/** The same in numbers. */
export interface WorkerPolicy {
  readonly tasksMax: number;
  readonly replicationsMax: number;
  readonly pollMs: number;
  /** Moves the image forward to points older than `keepMs`. */
  readonly apply: { readonly keepMs: number; readonly everyMs: number } | undefined;
  readonly merge:
    | {
        readonly everyMs: number;
        readonly bytesMax: number | undefined;
        readonly countMax: number | undefined;
        /** From so many diffs on a volume is merged whatever the time. */
        readonly thresholdCount: number | undefined;
      }
    | undefined;
  readonly replicate: {
    readonly everyMs: number;
    /** 0 for no limit. */
    readonly sendBytesMax: number;
    readonly mergeBytesMax: number;
    readonly compress: string;
  };
}

/** How text becomes numbers; of the command line. */
export interface Readers {
  readonly duration: (text: string) => number;
  readonly size: (text: string) => number;
}

/**
 * Reads the table; without one nothing is merged or applied. @throws WalbError `usage` naming the field.
 * @param tell is given each of these errors instead; the policy is then of no use.
 */
export function workerPolicy(
  table: WorkerTable | undefined,
  readers: Readers,
  tell?: (error: WalbError) => void,
): WorkerPolicy {
  const read = (kind: keyof Readers, value: string | number | undefined, field: string): number | undefined => {
    if (value === undefined) return undefined;
    if (typeof value === "number") return kind === "duration" ? value * 1000 : value;
    try {
      const number = readers[kind](value);
      // 0 would be a loop without rest, points that go at once, merges of nothing; of what is sent it is no limit.
      if (number > 0 || field.startsWith("replicate.max-")) return number;
      throw new WalbError("usage", { what: "it is 0" });
    } catch (cause) {
      const error = new WalbError("usage", {
        what: `the fleet file is wrong: ${JSON.stringify(value)} is not a ${kind}${field.startsWith("replicate.max-") ? "" : " above 0"}`,
        where: { field: `worker.${field}` },
        hint: kind === "duration" ? 'for example "10m" or "14d"' : 'for example "128M" or "1G"',
        cause,
      });
      if (tell === undefined) throw error;
      tell(error);
      return undefined;
    }
  };
  const { apply, merge, replicate } = table ?? {};
  return {
    tasksMax: table?.["max-tasks"] ?? 1,
    replicationsMax: table?.["max-replications"] ?? 1,
    pollMs: read("duration", table?.poll, "poll") ?? 10_000,
    apply:
      apply === undefined
        ? undefined
        : {
            keepMs: read("duration", apply.keep, "apply.keep") ?? 0,
            everyMs: read("duration", apply.every ?? "1d", "apply.every") ?? 0,
          },
    merge:
      merge === undefined
        ? undefined
        : {
            everyMs: read("duration", merge.every, "merge.every") ?? 0,
            bytesMax: read("size", merge["max-size"], "merge.max-size"),
            countMax: merge["max-count"],
            thresholdCount: merge.threshold,
          },
    replicate: {
      everyMs: read("duration", replicate?.every ?? "1m", "replicate.every") ?? 0,
      sendBytesMax: read("size", replicate?.["max-send"], "replicate.max-send") ?? 0,
      mergeBytesMax: read("size", replicate?.["max-merge"], "replicate.max-merge") ?? gib,
      compress: replicate?.compress ?? "snappy:0:1",
    },
  };
}
