/**
 * @module What is on the demo's volume: a real ext4 file system where e2fsprogs is there, generated file data otherwise.
 *
 * The file system is changed in a local image, without mounting it, and what changed in it goes to the volume.
 */
import { closeSync, ftruncateSync, openSync, writeFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { WalbError } from "../../errors.ts";
import { changesOfRound, Seeded, writeTree } from "./files.ts";

const blockBytes = 4096;

/** The content of the volume as a local image that changes round by round. */
export interface Content {
  readonly kind: "ext4" | "generated data";
  /** Makes the first state of the image. */
  create(): Promise<void>;
  /** Changes it. */
  change(round: number): Promise<void>;
  /** Checks an image; answers what was found, undefined when there is nothing to check with. */
  check(imagePath: string): Promise<{ readonly isClean: boolean; readonly text: string } | undefined>;
}

/** Chooses what can be made on this host. */
export function makeContent(directory: string, imagePath: string, sizeBytes: number): Content {
  const tools = ["mke2fs", "debugfs", "e2fsck"].map(findTool);
  const [mke2fs, debugfs, e2fsck] = tools;
  if (mke2fs === undefined || debugfs === undefined || e2fsck === undefined) {
    return generatedContent(imagePath, sizeBytes);
  }
  return {
    kind: "ext4",
    async create() {
      const tree = join(directory, "tree");
      writeTree(tree, 1);
      createSparse(imagePath, sizeBytes);
      const options = ["-q", "-F", "-t", "ext4", "-E", "lazy_itable_init=0,lazy_journal_init=0", "-d", tree];
      await run([mke2fs, ...options, imagePath]);
    },
    async change(round) {
      const script: string[] = [];
      for (const [i, { path, content }] of changesOfRound(round).entries()) {
        const source = join(directory, `change-${i}`);
        writeFileSync(source, content);
        script.push(`rm ${path}`, `write ${source} ${path}`);
      }
      const scriptPath = join(directory, "changes.debugfs");
      writeFileSync(scriptPath, `${script.join("\n")}\n`);
      await run([debugfs, "-w", "-f", scriptPath, imagePath]);
    },
    async check(path) {
      const { exitCode, output } = await execute([e2fsck, "-fn", path]);
      const text = (output.trim().split("\n").at(-1) ?? "").replace(/^e2fsck: /, "");
      return { isClean: exitCode === 0, text };
    },
  };
}

/** Runs of noise and text at seeded places. */
function generatedContent(imagePath: string, sizeBytes: number): Content {
  const scatter = (seed: number, runs: number, runBytes: number): void => {
    const random = new Seeded(seed);
    const file = openSync(imagePath, "r+");
    for (let i = 0; i < runs; i += 1) {
      const size = blockBytes * (1 + random.below(runBytes / blockBytes));
      const offset = blockBytes * random.below((sizeBytes - size) / blockBytes);
      writeSync(file, i % 2 === 0 ? random.noise(size) : random.text(size), 0, size, offset);
    }
    closeSync(file);
  };
  return {
    kind: "generated data",
    async create() {
      createSparse(imagePath, sizeBytes);
      scatter(1, 200, 1 << 20);
    },
    async change(round) {
      scatter(1000 + round, 12, 1 << 18);
    },
    async check() {
      return undefined;
    },
  };
}

function createSparse(path: string, sizeBytes: number): void {
  const file = openSync(path, "w");
  ftruncateSync(file, sizeBytes);
  closeSync(file);
}

/** Administrators' tools are often not on a user's path. */
function findTool(name: string): string | undefined {
  return Bun.which(name, { PATH: `${process.env.PATH ?? ""}:/usr/sbin:/sbin` }) ?? undefined;
}

async function execute(command: string[]): Promise<{ exitCode: number; output: string }> {
  const child = Bun.spawn(command, { stdin: "ignore", stdout: "pipe", stderr: "pipe" });
  const [out, err] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
  return { exitCode: await child.exited, output: `${out}${err}` };
}

async function run(command: string[]): Promise<void> {
  const { exitCode, output } = await execute(command);
  if (exitCode === 0) return;
  throw new WalbError("io", { what: `${command[0]} failed with exit code ${exitCode}`, cause: output.trim() });
}
