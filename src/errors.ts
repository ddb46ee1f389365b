/**
 * @module The one error class of walb and the table of its codes.
 *
 * Every failure a person or a peer can see is a {@link WalbError}. The table fixes, for each code, the exit code of the
 * command line and the HTTP status of the API, so that the three never disagree.
 */

/** Exit codes of the command line, see `docs/cli.md`. */
export const exitCodes = {
  done: 0,
  failed: 1,
  usage: 2,
  unreachable: 3,
  refused: 4,
  damaged: 5,
  notRestorable: 6,
  locked: 7,
  timedOut: 8,
  interrupted: 130,
} as const;

/** code → exit code and HTTP status. A code is stable: scripts and peers may match on it. */
export const errorCodes = {
  internal: { exit: exitCodes.failed, http: 500 },
  io: { exit: exitCodes.failed, http: 500 },
  "no-space": { exit: exitCodes.failed, http: 507 },
  usage: { exit: exitCodes.usage, http: 400 },
  "bad-parameter": { exit: exitCodes.usage, http: 400 },
  unreachable: { exit: exitCodes.unreachable, http: 502 },
  "port-in-use": { exit: exitCodes.failed, http: 500 },
  "not-found": { exit: exitCodes.failed, http: 404 },
  "already-exists": { exit: exitCodes.refused, http: 409 },
  state: { exit: exitCodes.refused, http: 409 },
  busy: { exit: exitCodes.refused, http: 409 },
  "different-uuid": { exit: exitCodes.refused, http: 409 },
  damaged: { exit: exitCodes.damaged, http: 500 },
  "bad-format": { exit: exitCodes.damaged, http: 422 },
  // What is stored cannot be read as it stands: nothing is known to be lost.
  unreadable: { exit: exitCodes.failed, http: 500 },
  protocol: { exit: exitCodes.failed, http: 502 },
  "not-restorable": { exit: exitCodes.notRestorable, http: 409 },
  "log-overflow": { exit: exitCodes.refused, http: 409 },
  locked: { exit: exitCodes.locked, http: 423 },
  "timed-out": { exit: exitCodes.timedOut, http: 504 },
  "out-of-range": { exit: exitCodes.failed, http: 422 },
  "read-only": { exit: exitCodes.refused, http: 409 },
  cancelled: { exit: exitCodes.interrupted, http: 409 },
  "wrong-key": { exit: exitCodes.refused, http: 403 },
  "no-token": { exit: exitCodes.refused, http: 401 },
  unsupported: { exit: exitCodes.failed, http: 501 },
} as const satisfies Record<string, { exit: number; http: number }>;

/** A stable error code, see {@link errorCodes}. */
export type ErrorCode = keyof typeof errorCodes;

/** Where something failed. Only what is known is set; all of it is shown to people. */
export interface ErrorPlace {
  readonly host?: string;
  readonly volume?: string;
  readonly file?: string;
  readonly offsetBytes?: number;
  readonly field?: string;
  readonly peer?: string;
  readonly step?: string;
}

/** The parts of a {@link WalbError}. */
export interface WalbErrorParts {
  /** What failed, one sentence without a full stop: "the log header at lsid 12 is damaged". */
  readonly what: string;
  readonly where?: ErrorPlace;
  /** What to do next, one sentence; shows a correct example where it can. */
  readonly hint?: string;
  readonly cause?: unknown;
}

/** An error that says what failed, where, why and what to do next. */
export class WalbError extends Error {
  override readonly name = "WalbError";
  readonly code: ErrorCode;
  readonly what: string;
  readonly where: ErrorPlace;
  readonly hint: string | undefined;

  constructor(code: ErrorCode, parts: WalbErrorParts) {
    super(renderMessage(parts), parts.cause === undefined ? undefined : { cause: parts.cause });
    this.code = code;
    this.what = parts.what;
    this.where = parts.where ?? {};
    this.hint = parts.hint;
  }

  /** The same error with more of the place known; what is already set wins. */
  at(place: ErrorPlace): WalbError {
    const parts: WalbErrorParts = { what: this.what, where: { ...place, ...this.where } };
    return new WalbError(this.code, {
      ...parts,
      ...(this.hint === undefined ? {} : { hint: this.hint }),
      ...(this.cause === undefined ? {} : { cause: this.cause }),
    });
  }

  /** Plain data for JSON answers and logs. */
  toJSON(): { code: ErrorCode; what: string; where: ErrorPlace; hint?: string; cause?: string } {
    return {
      code: this.code,
      what: this.what,
      where: this.where,
      ...(this.hint === undefined ? {} : { hint: this.hint }),
      ...(this.cause === undefined ? {} : { cause: causeText(this.cause) }),
    };
  }
}

/** Turns anything thrown into a {@link WalbError}; a WalbError gains what is known of the place. */
export function asWalbError(error: unknown, place: ErrorPlace = {}): WalbError {
  if (error instanceof WalbError) return error.at(place);
  const what = error instanceof Error ? error.message : String(error);
  const sqlite = sqliteCode(error);
  if (sqlite === undefined) return new WalbError("internal", { what, where: place, cause: error });
  return new WalbError(sqlite, {
    what: "the volume's database could not be used",
    where: place,
    ...(sqlite === "read-only"
      ? {
          hint: "let walb write volume.db and its directory: see their owner and mode, and that they are not mounted read-only; then restart the daemon",
        }
      : {}),
    cause: error,
  });
}

/** What a failure of SQLite means; it may be wrapped. */
function sqliteCode(thrown: unknown): ErrorCode | undefined {
  for (let error = thrown; error instanceof Error; error = error.cause) {
    const code = "code" in error && typeof error.code === "string" ? error.code : "";
    if (code === "SQLITE_FULL") return "no-space";
    // The journal could not be made: for want of space, too, where a new file takes some.
    if (code.startsWith("SQLITE_IOERR") || code.startsWith("SQLITE_CANTOPEN")) return "io";
    if (code.startsWith("SQLITE_READONLY")) return "read-only";
    if (code.startsWith("SQLITE_BUSY")) return "locked";
    if (code.startsWith("SQLITE_CORRUPT") || code === "SQLITE_NOTADB") return "damaged";
  }
  return undefined;
}

/** Whether the disk took no write: full, broken, read-only. What only reads can go on. */
export function isUnwritable(error: unknown): boolean {
  return ["no-space", "io", "read-only"].includes(asWalbError(error).code);
}

/** Throws an `internal` error when a condition the program relies on does not hold. */
export function assert(condition: boolean, what: string): asserts condition {
  if (!condition) throw new WalbError("internal", { what: `assertion failed: ${what}` });
}

function renderMessage(parts: WalbErrorParts): string {
  const place = placeText(parts.where ?? {});
  const cause = parts.cause === undefined ? "" : `: ${causeText(parts.cause)}`;
  return `${place === "" ? "" : `${place}: `}${parts.what}${cause}`;
}

function placeText(where: ErrorPlace): string {
  const words: string[] = [];
  if (where.host !== undefined) words.push(`host ${where.host}`);
  if (where.volume !== undefined) words.push(`volume ${where.volume}`);
  if (where.peer !== undefined) words.push(`peer ${where.peer}`);
  if (where.step !== undefined) words.push(`step ${where.step}`);
  if (where.file !== undefined) words.push(`file ${where.file}`);
  if (where.offsetBytes !== undefined) words.push(`offset ${where.offsetBytes}`);
  if (where.field !== undefined) words.push(`field ${where.field}`);
  return words.join(", ");
}

function causeText(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause);
}

/** A noun of a message with its article: `an archive`. */
export function withArticle(noun: string): string {
  return `${/^[aeiou]/.test(noun) ? "an" : "a"} ${noun}`;
}
