/** @module The program from its source: what `walb` stands for in tests that need no built binary. */
import { join } from "node:path";

export const runBinaryOfSource: readonly string[] = [process.execPath, join(import.meta.dir, "../../src/main.ts")];
