/** @module The controller with `walbc` called in this process, for scenarios that ask thousands of questions. */
import { originalTool } from "../../src/cli/original/index.ts";
import { closePlatform, createPlatform } from "../../src/platform/real/index.ts";
import { Controller, type ControlResult, type Server } from "./original-library.ts";

/** Asks at short intervals: a question costs no process. */
export class InProcessController extends Controller {
  protected override readonly pollMs = 5;
  readonly #platform = createPlatform({ memoryBudgetBytes: 16 << 20 });

  override async run(server: Server, ...words: string[]): Promise<ControlResult> {
    let [out, err] = ["", ""];
    const code = await originalTool("walbc")!(this.wordsFor(server, words), {
      out: (text) => {
        out += text;
      },
      err: (text) => {
        err += text;
      },
      isOutTerminal: false,
      isErrTerminal: false,
      isInTerminal: false,
      errColumns: () => 80,
      ask: async () => "",
      env: process.env,
      cwd: process.cwd(),
      nowMs: () => Date.now(),
      signal: new AbortController().signal,
      platform: this.#platform,
    });
    return { code, out, err };
  }

  close(): Promise<void> {
    return closePlatform(this.#platform);
  }
}
