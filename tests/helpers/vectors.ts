/** @module The original's golden files, found by kind, so that further ones are taken as they come. */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

/** The directory of golden files; undefined, with the reason printed, when the environment does not name one. */
export const vectorsDirectory = ((): string | undefined => {
  const path = process.env.WALB_VECTORS;
  if (path !== undefined && existsSync(join(path, "MANIFEST.md"))) return path;
  console.log("golden files are skipped: WALB_VECTORS does not name a directory with them");
  return undefined;
})();

/** Path of a golden file. */
export function vectorPath(name: string): string {
  return join(vectorsDirectory ?? "", name);
}

/** Names in a folder of golden files that match; none without the directory. */
export function vectorNames(folder: string, pattern: RegExp): string[] {
  if (vectorsDirectory === undefined) return [];
  return readdirSync(vectorPath(folder))
    .filter((name) => pattern.test(name))
    .sort()
    .map((name) => `${folder}/${name}`);
}

/** Text of a golden file. */
export function vectorText(name: string): string {
  return readFileSync(vectorPath(name), "utf8");
}

/** Bytes of a golden file, expanded when it is an .xz file. */
export async function vectorBytes(name: string): Promise<Uint8Array> {
  const path = vectorPath(name);
  if (!path.endsWith(".xz")) return new Uint8Array(readFileSync(path));
  const child = Bun.spawn(["xz", "-dc", path], { stdout: "pipe" });
  const bytes = await new Response(child.stdout).bytes();
  if ((await child.exited) !== 0) throw new Error(`xz -dc ${path} failed`);
  return bytes;
}

/** One line of images.json: what an image is after the original's tool. */
export interface ImageEntry {
  readonly input: string;
  readonly command: string;
  readonly init: "zero" | "ff" | "-";
  readonly image_size: number;
  readonly sha256: string;
  readonly stdout: string;
}

/** images.json. */
export function imageEntries(): ImageEntry[] {
  return vectorsDirectory === undefined ? [] : (JSON.parse(vectorText("images.json")) as ImageEntry[]);
}

export function sha256(bytes: Uint8Array): string {
  return new Bun.CryptoHasher("sha256").update(bytes).digest("hex");
}
