/** @module Standard output as the place where data goes. */
import { write } from "node:fs";
import { WalbError } from "../../errors.ts";

/** Writes data without holding up the process, however slow the reader is. @throws WalbError `io`. */
export async function writeStandardOutput(bytes: Uint8Array): Promise<void> {
  for (let at = 0; at < bytes.length; ) {
    const { promise, resolve } = Promise.withResolvers<{ error: NodeJS.ErrnoException | null; doneBytes: number }>();
    write(1, bytes, at, bytes.length - at, null, (error, doneBytes) => resolve({ error, doneBytes }));
    const { error, doneBytes } = await promise;
    if (error === null) at += doneBytes;
    else if (error.code === "EAGAIN") await Bun.sleep(1);
    else {
      const what = error.code === "EPIPE" ? "the reader of the output went away" : "the output cannot be written";
      throw new WalbError("io", { what, where: { file: "standard output" }, cause: error });
    }
  }
}
