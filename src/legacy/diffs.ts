/** @module wdiff files in a directory of the original, by their names alone. */
import { asWalbError } from "../errors.ts";
import type { Disk } from "../platform/disk.ts";
import { parseDiffFileName } from "../snapshot/filename.ts";
import { diffText } from "../snapshot/text.ts";
import type { DiffMeta } from "../snapshot/types.ts";
import { badFile } from "./files.ts";

/** A diff file and what its name says; `dataSizeBytes` is the size of the file. */
export interface LegacyDiffFile {
  readonly name: string;
  readonly meta: DiffMeta;
}

/**
 * The diffs of a directory, sorted by name, and all other names in it. A directory that is not there has none.
 * @throws WalbError `bad-format` naming the file whose name is no diff's, or when two files are the same diff.
 */
export async function diffFilesOf(
  disk: Disk,
  directory: string,
): Promise<{ diffs: readonly LegacyDiffFile[]; others: readonly string[] }> {
  const diffs: LegacyDiffFile[] = [];
  const others: string[] = [];
  if ((await disk.info(directory))?.kind !== "directory") return { diffs, others };
  const seen = new Map<string, string>();
  for (const name of await disk.list(directory)) {
    const path = `${directory}/${name}`;
    const info = name.endsWith(".wdiff") ? await disk.info(path) : undefined;
    if (info?.kind !== "file") {
      others.push(name);
      continue;
    }
    const meta = metaOf(name, path, info.sizeBytes);
    const twin = seen.get(diffText(meta));
    if (twin !== undefined) throw badFile(path, "name", `is the same diff as ${twin}`);
    seen.set(diffText(meta), name);
    diffs.push({ name, meta });
  }
  return { diffs, others };
}

function metaOf(name: string, path: string, sizeBytes: number): DiffMeta {
  try {
    return { ...parseDiffFileName(name), dataSizeBytes: sizeBytes };
  } catch (error) {
    // The parser knows the name only; the whole path tells which volume it is.
    const failure = asWalbError(error);
    throw badFile(path, "name", `cannot be: ${failure.what}`);
  }
}
