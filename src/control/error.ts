/** @module A WalbError as JSON, and back. */
import { z } from "zod";
import { type ErrorCode, errorCodes, WalbError } from "../errors.ts";

const codes = Object.keys(errorCodes) as [ErrorCode, ...ErrorCode[]];

/** The answer to a failed request, see `WalbError.toJSON`. Codes that are not known read as `internal`. */
export const errorReportSchema = z.object({
  code: z.enum(codes).catch("internal"),
  what: z.string(),
  where: z
    .object({
      host: z.string(),
      volume: z.string(),
      file: z.string(),
      offsetBytes: z.number(),
      field: z.string(),
      peer: z.string(),
      step: z.string(),
    })
    .partial()
    .default({}),
  hint: z.string().optional(),
  cause: z.string().optional(),
});
export type ErrorReport = z.output<typeof errorReportSchema>;

/** The error that a peer reported. */
export function errorFromReport(report: ErrorReport): WalbError {
  const where = Object.fromEntries(Object.entries(report.where).filter(([, value]) => value !== undefined));
  return new WalbError(report.code, {
    what: report.what,
    where,
    ...(report.hint === undefined ? {} : { hint: report.hint }),
    ...(report.cause === undefined ? {} : { cause: report.cause }),
  });
}
