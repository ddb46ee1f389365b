/**
 * @module Jobs: work that outlives the request that began it, with progress, a final result, and cancelling.
 */
import { z } from "zod";
import { errorReportSchema } from "./error.ts";
import { countSchema, timeMsSchema } from "./schemas.ts";

/** How far a job is, as its handler tells it. */
export interface ProgressReport {
  readonly doneBytes: number;
  /** Missing while it is not known. */
  readonly totalBytes?: number;
  /** What is being done, in English: "scanning", "copying the base image". */
  readonly step?: string;
}

const progressSchema = z.object({
  doneBytes: countSchema,
  totalBytes: countSchema.optional(),
  rateBytesPerS: z.number().nonnegative(),
  /** Missing when the total or the rate is not known. */
  etaS: z.number().nonnegative().optional(),
  step: z.string(),
});
/** Progress with rate and ETA. */
export type Progress = z.output<typeof progressSchema>;

export const jobSchema = z.object({
  id: z.string(),
  command: z.string(),
  volume: z.string().optional(),
  state: z.enum(["running", "done", "failed", "cancelled"]),
  startedMs: timeMsSchema,
  endedMs: timeMsSchema.optional(),
  progress: progressSchema,
  /** Of the command's schema, when done. */
  result: z.unknown().optional(),
  error: errorReportSchema.optional(),
});
/** A job as the API tells it. */
export type JobInfo = z.output<typeof jobSchema>;
