/**
 * @module The small files of an original volume directory: one serialized value each.
 *
 * Stricter than the original: bytes behind the value are damage. Source: `docs/formats.md`, per-volume metadata files.
 */
import { asWalbError, WalbError } from "../errors.ts";
import type { Disk } from "../platform/disk.ts";
import { Decoder, type Encoder, encoded, ShortRead } from "../wire/serializer.ts";

/** No honest metadata file comes near. */
const metadataBytesMax = 64 * 1024;

const hint = "the file is damaged: restore it from another copy, or clear and initialise the volume anew";

/** The damage of a file, with its name and the field. */
export function badFile(file: string, field: string, problem: string, offsetBytes?: number): WalbError {
  const where = { file, field, ...(offsetBytes === undefined ? {} : { offsetBytes }) };
  return new WalbError("bad-format", { what: `${field} ${problem}`, where, hint });
}

/**
 * Decodes a value that must fill `bytes` exactly.
 * @throws WalbError `bad-format` naming file, offset and field.
 */
export function decodeFile<T>(bytes: Uint8Array, file: string, field: string, take: (decoder: Decoder) => T): T {
  const decoder = new Decoder(bytes);
  try {
    const value = take(decoder);
    decoder.end(field);
    return value;
  } catch (error) {
    if (error instanceof ShortRead) {
      const what = `is cut short: the file has only ${bytes.length} bytes`;
      throw badFile(file, field, what, bytes.length);
    }
    const failure = asWalbError(error, { file, offsetBytes: decoder.offsetBytes, field });
    if (failure.code === "internal") throw failure;
    throw new WalbError("bad-format", { what: failure.what, where: failure.where, hint });
  }
}

/** Reads a file that holds one value. @throws WalbError `not-found`, `bad-format`, `io`. */
export async function readValue<T>(disk: Disk, path: string, field: string, take: (decoder: Decoder) => T): Promise<T> {
  let bytes: Uint8Array;
  try {
    bytes = await disk.readSmall(path, metadataBytesMax);
  } catch (thrown) {
    const error = asWalbError(thrown);
    if (error.code !== "not-found") throw error;
    throw new WalbError("not-found", {
      what: "the file is missing, which each volume of walb-tools has",
      where: { file: path, field },
      hint: "a directory that is no volume: move it away, or name the others with --volume; else restore the file from another copy",
    });
  }
  return decodeFile(bytes, path, field, take);
}

/** Replaces a file that holds one value, durably. */
export async function writeValue(disk: Disk, path: string, put: (encoder: Encoder) => void): Promise<void> {
  await disk.writeSmall(path, encoded(put));
}

/** Takes a string that must be one of `values`. @throws WalbError naming `field`. */
export function takeWord<T extends string>(decoder: Decoder, field: string, values: readonly T[]): T {
  const word = decoder.string(field, 256);
  const found = values.find((value) => value === word);
  if (found !== undefined) return found;
  throw new WalbError("bad-format", {
    what: `${field} is "${word.slice(0, 40)}", but must be one of ${values.join(", ")}`,
    where: { field },
  });
}
