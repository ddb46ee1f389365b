/** @module Errors that name what the user gave, not the temporary file that stands for it. */
import { WalbError } from "../../../errors.ts";

/** A file, and what the user called it. */
export interface NamedFile {
  readonly path: string;
  readonly name: string;
}

/** The error with the name the user gave. */
export function renamed(error: unknown, files: readonly NamedFile[]): unknown {
  if (!(error instanceof WalbError)) return error;
  const file = files.find(({ path, name }) => path === error.where.file && path !== name);
  if (file === undefined) return error;
  const { what, hint, cause } = error;
  return new WalbError(error.code, {
    what,
    where: { ...error.where, file: file.name },
    ...(hint === undefined ? {} : { hint }),
    ...(cause === undefined ? {} : { cause }),
  });
}
