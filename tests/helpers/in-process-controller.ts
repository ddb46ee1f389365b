/** @module The controller with `walbc` called in this process, for scenarios that ask thousands of questions. */
import { originalTool } from "../../src/cli/original/index.ts";
import { closePlatform, createPlatform } from "../../src/platform/real/index.ts";
import { Controller, type ControlResult, type Server } from "./original-library.ts";
import { quietIo } from "./quiet-io.ts";

/** Asks at short intervals: a question costs no process. */
export class InProcessController extends Controller {
  protected override readonly pollMs = 5;
  readonly #platform = createPlatform({ memoryBudgetBytes: 16 << 20 });

  override async run(server: Server, ...words: string[]): Promise<ControlResult> {
    const { io, said } = quietIo({ env: process.env, platform: this.#platform });
    const code = await originalTool("walbc")!(this.wordsFor(server, words), io);
    return { code, ...said };
  }

  close(): Promise<void> {
    return closePlatform(this.#platform);
  }
}
