/** @module Lines of JSON on a byte stream, bounded in length. */

/** Splits received chunks into lines of UTF-8 text without their newline. */
export class LineParser {
  private parts: Uint8Array[] = [];
  private sizeBytes = 0;

  constructor(private readonly maxBytes: number) {}

  /** The lines completed by a chunk; undefined when a line is longer than allowed: the stream is lost then. */
  push(chunk: Uint8Array): string[] | undefined {
    const lines: string[] = [];
    let from = 0;
    for (;;) {
      const newline = chunk.indexOf(10, from);
      const end = newline < 0 ? chunk.length : newline;
      if (this.sizeBytes + end - from > this.maxBytes) return undefined;
      this.parts.push(chunk.subarray(from, end));
      this.sizeBytes += end - from;
      if (newline < 0) return lines;
      lines.push(this.join());
      from = newline + 1;
    }
  }

  private join(): string {
    const bytes = this.parts.length === 1 ? this.parts[0]! : Buffer.concat(this.parts);
    this.parts = [];
    this.sizeBytes = 0;
    return new TextDecoder().decode(bytes);
  }
}

/** A value as one line. */
export function lineOf(value: unknown): Uint8Array {
  return new TextEncoder().encode(`${JSON.stringify(value)}\n`);
}

/** JSON of a line, or undefined when it is none. */
export function parseLine(line: string): unknown {
  try {
    return JSON.parse(line) as unknown;
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}
