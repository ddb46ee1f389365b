/**
 * @module The control protocol of the device daemon as schemas: what the daemon answers and the command line prints.
 *
 * Lines of JSON over a unix socket. The daemon greets with {@link helloSchema}; a request is {@link requestSchema}
 * with the parameters of its operation (see {@link operations}); answers are {@link replySchema}; a subscriber gets
 * {@link eventSchema} lines between them. A line is at most {@link maxLineBytes} long.
 */
import { z } from "zod";
import { type ErrorCode, errorCodes } from "../../../errors.ts";
import { lbBytes } from "../../../units.ts";

/** Version of the control protocol; a client refuses a daemon with another one. */
export const controlVersion = 1;
/** Longest line either side accepts, newline excluded. */
export const maxLineBytes = 1024 * 1024;
/** Most volumes of one daemon: keeps a `list` answer far below {@link maxLineBytes}. */
export const maxVolumes = 512;
/** Smallest and largest volume. */
const minVolumeBytes = 4096;
const maxVolumeBytes = 2 ** 52;

const count = z.int().nonnegative();
const pathSchema = z.string().min(1).max(4096);

/** Names that are also file names, wire names and device names: at most 25 bytes, as the kernel driver's. */
export const volumeNameSchema = z
  .string()
  .regex(/^[A-Za-z0-9_][A-Za-z0-9._-]{0,24}$/, "1 to 25 letters, digits, dots, underscores or dashes, e.g. vol0");

export const overflowPolicySchema = z.enum(["keep-writing", "stop"]);
/** What happens to writes when the log is full: they go on and break the chain, or they fail with ENOSPC. */
export type OverflowPolicy = z.infer<typeof overflowPolicySchema>;

const volumeSizeSchema = z
  .int()
  .min(minVolumeBytes)
  .max(maxVolumeBytes)
  .refine((size) => size % lbBytes === 0, "a multiple of 512 bytes, e.g. 10737418240");

/** How the engine of one volume works, where it is not to be the daemon's choice. */
export const volumeTuningSchema = z
  .strictObject({
    /** Writes that are not on the data store yet, before more have to wait; never more than the daemon allows a volume. */
    maxPendingBytes: z
      .int()
      .min(1024 * 1024)
      .max(2 ** 34)
      .optional(),
    /** Having come to that, writes wait until fewer are pending than this; less than `maxPendingBytes`, … */
    minPendingBytes: z
      .int()
      .min(1)
      .max(2 ** 34)
      .optional(),
    /** … or until this time has passed and there is room at all. */
    queueStopTimeoutMs: z.int().min(1).max(86_400_000).optional(),
    /** Packs, and writes, that are put into the log at once; at most 64 and 960. */
    maxBatchPacks: z
      .int()
      .min(1)
      .max(2 ** 32)
      .optional(),
    maxBatchWrites: z
      .int()
      .min(1)
      .max(2 ** 32)
      .optional(),
    /** Most data of one log pack; at least one block, at most 1 MiB. */
    maxPackBytes: z
      .int()
      .min(lbBytes)
      .max(2 ** 42)
      .optional(),
    /** The log is synced once so much of it is not, … */
    logSyncBytes: z
      .int()
      .min(0)
      .max(2 ** 34)
      .optional(),
    /** … and at the latest after this time. */
    logSyncIntervalMs: z.int().min(0).max(86_400_000).optional(),
  })
  .refine(({ minPendingBytes = 0, maxPendingBytes = Number.POSITIVE_INFINITY }) => minPendingBytes < maxPendingBytes, {
    message: "less than maxPendingBytes",
    path: ["minPendingBytes"],
  });
export type VolumeTuning = z.infer<typeof volumeTuningSchema>;

/** What `create` takes. Paths default to files in the daemon's directory. */
export const createVolumeSchema = z.strictObject({
  name: volumeNameSchema,
  /** Left out: the size of the data store, which must exist. */
  sizeBytes: volumeSizeSchema.optional(),
  /** Absolute. An existing block device or file is used as it is, with its content; a missing file is made. */
  dataPath: pathSchema.optional(),
  /** Absolute. An existing file or block device is formatted: refused when it already holds a log. */
  logPath: pathSchema.optional(),
  /** Take over the log that is in `logPath`, e.g. of the kernel driver, instead of formatting it. */
  reuseLog: z.boolean().default(false),
  /** Size of a log file to be made; default 1 GiB. */
  logSizeBytes: volumeSizeSchema.optional(),
  overflow: overflowPolicySchema.default("keep-writing"),
  /** Physical block size of the log: 512 or 4096. Default: the larger of the two stores'. */
  pbsBytes: z.union([z.literal(512), z.literal(4096)]).optional(),
  tuning: volumeTuningSchema.optional(),
});
export type CreateVolume = z.input<typeof createVolumeSchema>;

const lsidsSchema = z.object({
  oldest: count,
  prevWritten: count,
  written: count,
  permanent: count,
  flush: count,
  completed: count,
  latest: count,
});

const deviceInfoSchema = z.object({
  name: volumeNameSchema,
  sizeLb: count,
  pbsBytes: z.int().positive(),
  uuid: z.string().regex(/^[0-9a-f]{32}$/),
  salt: count,
  ringSizePb: count,
  ringOffsetPb: count,
  logPath: z.string(),
  dataPath: z.string(),
});

const deviceStatusSchema = z.object({
  lsids: lsidsSchema,
  isOverflow: z.boolean(),
  readOnlyReason: z.string().optional(),
  uuid: z.string(),
});

/** A volume as `list` and `show` tell it. */
const volumeReportSchema = z.object({
  /** Not always a valid name: a stray file among the configurations is reported, too. */
  name: z.string(),
  /** `failed`: could not be opened, see `reason`; `starting`: its stores take long to open; `stopped`: until it is started.
   * All three are not exported. */
  state: z.enum(["running", "frozen", "read-only", "failed", "starting", "stopped"]),
  reason: z.string().optional(),
  /** What to do about it. */
  hint: z.string().optional(),
  sizeBytes: count,
  overflow: overflowPolicySchema,
  /** What was asked for when the volume was made, as far as the daemon follows it. */
  tuning: volumeTuningSchema.optional(),
  dataPath: z.string(),
  logPath: z.string(),
  /** Block device; only of the kernel driver. */
  path: z.string().optional(),
  /** NBD connections that have the volume open. */
  connections: count,
  /** Consumers of the log that watch it. */
  watchers: count,
  /** `nbd://…` addresses where the volume can be reached. */
  uris: z.array(z.string()),
  /** Missing when `failed`, `starting` or `stopped`. */
  info: deviceInfoSchema.optional(),
  status: deviceStatusSchema.optional(),
  /** Log in use and its capacity, in PB: above capacity the log has overflowed. */
  logUsagePb: count.optional(),
  logCapacityPb: count.optional(),
});
export type VolumeReport = z.infer<typeof volumeReportSchema>;

const named = z.strictObject({ name: volumeNameSchema });
const nothing = z.strictObject({});
const done = z.object({});

/** Every operation: parameters and answer. */
export const operations = {
  ping: { params: nothing, result: z.object({ nodeId: z.string(), volumes: count }) },
  list: { params: nothing, result: z.object({ volumes: z.array(volumeReportSchema) }) },
  show: { params: named, result: volumeReportSchema },
  create: { params: createVolumeSchema, result: volumeReportSchema },
  /** Refused while connected or watched unless forced. Keeps block devices and files that the user named; with
   * `keepStores` also those that the daemon made, so that the volume can be moved. */
  delete: {
    params: z.strictObject({
      name: volumeNameSchema,
      force: z.boolean().default(false),
      keepStores: z.boolean().default(false),
    }),
    result: done,
  },
  /** Opens a volume that failed, takes no more writes or was stopped; cuts its clients off. */
  start: { params: named, result: volumeReportSchema },
  /** Closes a volume until it or the daemon is started. Refused while connected or watched unless forced. */
  stop: {
    params: z.strictObject({ name: volumeNameSchema, force: z.boolean().default(false) }),
    result: volumeReportSchema,
  },
  resize: { params: z.strictObject({ name: volumeNameSchema, sizeBytes: volumeSizeSchema }), result: deviceInfoSchema },
  checkpoint: { params: named, result: done },
  /** Holds writes back until `melt`, or for `timeoutMs` (at most a day; left out: no timeout). */
  freeze: {
    params: z.strictObject({ name: volumeNameSchema, timeoutMs: z.int().min(1).max(86_400_000).optional() }),
    result: done,
  },
  melt: { params: named, result: done },
  resetLog: { params: named, result: deviceInfoSchema },
  info: { params: named, result: deviceInfoSchema },
  status: { params: named, result: deviceStatusSchema },
  /** Tells, and sets when it is given, the time between checkpoints until the daemon ends; 0: none by time. */
  checkpointInterval: {
    params: z.strictObject({ name: volumeNameSchema, intervalMs: z.int().min(0).max(86_400_000).optional() }),
    result: z.object({ intervalMs: count }),
  },
  setOldest: { params: z.strictObject({ name: volumeNameSchema, lsid: count }), result: done },
  /** Subscribes this connection to {@link eventSchema} lines of a volume. */
  watch: { params: named, result: done },
  unwatch: { params: named, result: done },
} as const;

export type Operation = keyof typeof operations;
export type OperationParams<O extends Operation> = z.input<(typeof operations)[O]["params"]>;
export type OperationResult<O extends Operation> = z.infer<(typeof operations)[O]["result"]>;

export const helloSchema = z.object({
  walbDevice: z.int(),
  nodeId: z.string().max(255),
});

export const requestSchema = z.strictObject({
  id: count,
  op: z.string().max(64),
  params: z.unknown().optional(),
});

const codes = Object.keys(errorCodes) as [ErrorCode, ...ErrorCode[]];
/** A WalbError as JSON, see `WalbError.toJSON`. */
const errorSchema = z.object({
  code: z.enum(codes),
  what: z.string(),
  where: z.object({
    host: z.string().optional(),
    volume: z.string().optional(),
    file: z.string().optional(),
    offsetBytes: z.number().optional(),
    field: z.string().optional(),
    peer: z.string().optional(),
    step: z.string().optional(),
  }),
  hint: z.string().optional(),
  cause: z.string().optional(),
});

export const replySchema = z.union([
  z.object({ id: count, ok: z.unknown() }),
  z.object({ id: count.nullable(), error: errorSchema }),
]);

/** Something about the volume changed; says nothing more: ask for the status. */
export const eventSchema = z.object({ event: z.literal("changed"), name: volumeNameSchema });
