/**
 * @module The shapes that commands of all roles share, and the one place where gids turn from bigint to JSON and back.
 */
import { z } from "zod";
import { WalbError } from "../errors.ts";
import { codecNames } from "../native/codec.ts";
import { safeNumber } from "../units.ts";
import { addressCharsMax, addressPattern, compressionPattern, hasPort, volumePattern } from "./texts.ts";

/** A whole number that is not negative. */
export const countSchema = z.int().nonnegative();
/** Milliseconds since 1970 UTC. */
export const timeMsSchema = countSchema;

/** Volume ids, see {@link volumePattern}. */
export const volumeSchema = z.string().regex(volumePattern, "1 to 64 letters, digits or dashes, e.g. vol0");

/** A generation id: a whole number in JSON, bigint in memory. Both are taken, bigint is given. */
export const gidSchema = z
  .union([countSchema, z.bigint().nonnegative().max(BigInt(Number.MAX_SAFE_INTEGER))])
  .transform((gid) => BigInt(gid));

/** An address, see {@link addressPattern}. */
export const addressTextSchema = z
  .string()
  .max(addressCharsMax)
  .regex(addressPattern, { error: "host:port, e.g. backup1:10200", abort: true })
  .refine(hasPort, "a port is at most 65535");

/** A compression, see {@link compressionPattern}. */
export const compressionSchema = z
  .string()
  .regex(compressionPattern, `codec[:level[:threads]] with a codec of ${codecNames.join(", ")}, e.g. zstd:3`);

/** A path on the daemon's host. */
export const pathSchema = z.string().min(1).max(4096).startsWith("/", "an absolute path");

/** How far a stop has come, see `StopState` of volume/machine.ts. */
const stopStateSchema = z.enum(["not-stopping", "waiting-for-empty", "stopping", "force-stopping"]);

/** An action under way on a volume. */
const runningSchema = z.object({
  action: z.string(),
  count: countSchema,
  beganMs: timeMsSchema.optional(),
  /** How far it has come, where that is known. */
  doneBytes: countSchema.optional(),
  totalBytes: countSchema.optional(),
});

/** The last thing that went wrong with a volume or a step, until it goes well again. */
export const troubleSchema = z.object({
  code: z.string(),
  /** Whole text: what, where, why. */
  message: z.string(),
  hint: z.string().optional(),
  /** Whom it happened with, and at which step, where that is known. */
  peer: z.string().optional(),
  step: z.string().optional(),
  /** When it last happened, and when it began to. */
  atMs: timeMsSchema,
  sinceMs: timeMsSchema.optional(),
  /** When it is tried again, if it is. */
  retryAtMs: timeMsSchema.optional(),
});

/** Why nothing moves now, and how it goes on. */
export const waitingSchema = z.object({
  /** What does not go on, e.g. `log transfer`. */
  step: z.string(),
  /** Node id or address of whom it waits for. */
  host: z.string(),
  sinceMs: timeMsSchema.optional(),
  why: z.string(),
  /** What will happen, or what somebody has to do. */
  next: z.string(),
  /** When at the latest it goes on by itself; missing when it does not, or nobody knows. */
  nextMs: timeMsSchema.optional(),
});
export type Waiting = z.output<typeof waitingSchema>;

/** What all roles' volumes have in their status. `state` is `Clear` for a volume that is not there. */
export const volumeStatusFields = {
  volume: z.string(),
  state: z.string(),
  stopState: stopStateSchema,
  sinceMs: timeMsSchema.optional(),
  sizeLb: countSchema.optional(),
  running: z.array(runningSchema),
  trouble: troubleSchema.optional(),
};

export const volumeParams = z.strictObject({ volume: volumeSchema });
export const noParams = z.strictObject({});
/** The answer of commands that only succeed. */
export const doneSchema = z.object({});
/** Without a volume: of all. */
export const statusParams = z.strictObject({ volume: volumeSchema.optional() });
export const volumesResult = z.object({ volumes: z.array(z.string()) });

/** Turns an answer into JSON text: bigint becomes a number. @throws WalbError `out-of-range` above 2^53 − 1. */
export function toJson(value: unknown, space?: number): string {
  return JSON.stringify(
    value,
    (key, item: unknown) => (typeof item === "bigint" ? safeNumber(item, key) : item),
    space,
  );
}

/** Parses with a schema. @throws WalbError `bad-parameter` (or the given code) naming the first field that is wrong. */
export function parseWith<Schema extends z.ZodType>(
  schema: Schema,
  value: unknown,
  what: string,
  code: "bad-parameter" | "protocol" | "internal" = "bad-parameter",
): z.output<Schema> {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0];
  const field = issue === undefined ? "" : issue.path.join(".");
  throw new WalbError(code, {
    what: `${what}: ${issue?.message ?? "not valid"}`,
    where: field === "" ? {} : { field },
  });
}
