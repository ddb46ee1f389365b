/** @module The Commands interface: programs of the host that walb runs (LVM); never through a shell. */

/** How to run a program. */
export interface CommandOptions {
  /** It is ended after this time. Default 60 000. */
  readonly timeoutMs?: number;
  /**
   * How it is ended: killed (default), or only asked to, which it may put off, because killed in the middle it would
   * leave more behind than it finds.
   */
  readonly ending?: "kill" | "ask";
  /**
   * A file, made when missing, that is locked until the program has ended, even if we are killed before: who opens it with
   * `lock` knows that it has. Many may keep it locked at once. On a disk that takes no new file nothing is locked.
   */
  readonly keepsLocked?: string;
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
   * Runs a program found in PATH or the system's directories, in the C locale, without standard input. One that does not
   * end when it is told to, or leaves children behind that hold its output, is left alone: nobody waits for it.
   * @throws WalbError `not-found` when it is not installed, `timed-out`, `cancelled`; `busy` while too many are left alone.
   */
  run(argv: readonly string[], options?: CommandOptions): Promise<CommandResult>;
}
