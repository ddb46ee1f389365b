/** @module The Commands interface: programs of the host that walb runs (LVM); never through a shell. */

/** How to run a program. */
export interface CommandOptions {
  /** Killed after this time. Default 60 000. */
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
}

/** How a program ended. */
export interface CommandResult {
  /** 128 + the signal's number when one ended it. */
  readonly exitCode: number;
  /** At most 64 MiB; more is an error. */
  readonly stdout: string;
  /** The end of what it said, at most 64 KiB. */
  readonly stderr: string;
}

/** Runs programs. */
export interface Commands {
  /**
   * Runs a program found in PATH or the system's directories, in the C locale, without standard input.
   * @throws WalbError `not-found` when it is not installed, `timed-out`, `cancelled`.
   */
  run(argv: readonly string[], options?: CommandOptions): Promise<CommandResult>;
}
