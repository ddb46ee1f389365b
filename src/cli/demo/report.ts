/** @module What the demo says while it runs, and the table at its end. */
import { renderTable } from "../text/table.ts";
import { formatDuration } from "../text/time.ts";
import type { Io } from "../verb.ts";

/** One thing that happened. */
interface Line {
  readonly what: string;
  readonly tookMs: number | undefined;
  readonly moved: string;
  readonly result: string;
}

/** What a step gave. */
export interface StepResult {
  readonly moved?: string;
  readonly result?: string;
}

/** Tells steps as they happen and remembers them for the table. */
export class Report {
  readonly #io: Io;
  readonly #lines: Line[] = [];

  constructor(io: Io) {
    this.#io = io;
  }

  /** Runs a step; it is in the table with its time. */
  async step<Result extends StepResult>(what: string, work: () => Promise<Result>): Promise<Result> {
    this.say(`\n● ${what}`);
    const startMs = performance.now();
    const result = await work();
    const tookMs = performance.now() - startMs;
    this.#lines.push({ what, tookMs, moved: result.moved ?? "", result: result.result ?? "" });
    const parts = [result.moved, result.result, formatDuration(tookMs)].filter((part) => part !== undefined);
    this.say(`  ${parts.join(" · ")}`);
    return result;
  }

  /** A line for the one who watches. */
  say(text: string): void {
    this.#io.out(`${text}\n`);
  }

  /** The table of all steps. */
  table(): string {
    const columns = [
      { title: "WHAT HAPPENED" },
      { title: "TOOK", align: "right" },
      { title: "MOVED", align: "right" },
      { title: "RESULT" },
    ] as const;
    return renderTable(
      columns,
      this.#lines.map((line) => [
        line.what,
        line.tookMs === undefined ? "" : formatDuration(line.tookMs),
        line.moved,
        line.result,
      ]),
    );
  }
}
