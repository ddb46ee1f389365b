/**
 * @module Builds the one executable, dist/walb: the C shim, then the compiled TypeScript with the shim embedded. Does
 * nothing when no input is newer.
 */
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";

const root = import.meta.dir;
const outfile = join(root, "dist", "walb");
const inputs = ["src", "ffi", "build.ts", "package.json", "package-lock.json", "tsconfig.json"];

/** Newest modification below a path. Directories count, so that a removed file is noticed. */
function newestMs(path: string): number {
  const stats = statSync(path);
  if (!stats.isDirectory()) return stats.mtimeMs;
  return readdirSync(path).reduce((newest, name) => Math.max(newest, newestMs(join(path, name))), stats.mtimeMs);
}

function build(): void {
  execFileSync("sh", [join(root, "ffi", "build.sh")], { stdio: "inherit" });
  const newest = Math.max(...inputs.map((input) => newestMs(join(root, input))));
  if (existsSync(outfile) && statSync(outfile).mtimeMs > newest) return;
  mkdirSync(join(root, "dist"), { recursive: true });
  // Built aside and renamed: a running dist/walb is not disturbed, an interrupted build leaves no half of one.
  const partial = `${outfile}.${process.pid}.tmp`;
  try {
    const flags = ["--compile", "--minify", "--bytecode", "--format=esm", "--splitting"];
    // The executable must not obey configuration that lies in the directory it is started in.
    const isolation = ["--no-compile-autoload-dotenv", "--no-compile-autoload-bunfig"];
    const args = ["build", ...flags, ...isolation, join(root, "src", "main.ts"), "--outfile", partial];
    execFileSync(process.execPath, args, { stdio: ["ignore", "inherit", "inherit"], cwd: root });
    renameSync(partial, outfile);
  } finally {
    rmSync(partial, { force: true });
  }
}

build();
