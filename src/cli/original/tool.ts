/** @module How one of the original's tools is declared. */
import type { Tool } from "../files/lib/tool.ts";
import type { Io } from "../verb.ts";
import type { OriginalArgs, OriginalSyntax } from "./options.ts";

/** What a tool runs in. */
export interface OriginalContext {
  readonly args: OriginalArgs;
  readonly tool: Tool;
  /** Writes a line to standard output. */
  print(line: string): void;
  /** Lets lines be seen at once that are printed for who watches. */
  flush(): void;
  /** Writes a line to standard error, as it is. */
  printError(line: string): void;
  /** Writes a log line to standard error. */
  logError(text: string): void;
  readonly io: Io;
}

/** A tool under the original's name. */
export interface OriginalTool extends OriginalSyntax {
  /** Answers the exit code; nothing means 0. @throws WalbError: exit 1, with a log line. */
  run(context: OriginalContext): Promise<number | undefined>;
}

/** Declares a tool. */
export function defineOriginal(tool: OriginalTool): OriginalTool {
  return tool;
}
