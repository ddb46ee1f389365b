/** @module What `walb check` finds: mistakes, and what may become one. Plain data for people, JSON and tests. */

/** Something found. */
export interface Finding {
  /** An error keeps a volume from being protected, or will; a warning is worth a look. */
  readonly level: "error" | "warning";
  /** What it is about: a field of the fleet file, `server a0`, `volume vol0`. */
  readonly place: string;
  /** English, one sentence. */
  readonly what: string;
  /** What to do. */
  readonly hint?: string;
}

/** Collects findings. */
export class Findings {
  readonly all: Finding[] = [];

  error(place: string, what: string, hint?: string): void {
    this.#add("error", place, what, hint);
  }

  warn(place: string, what: string, hint?: string): void {
    this.#add("warning", place, what, hint);
  }

  #add(level: Finding["level"], place: string, what: string, hint: string | undefined): void {
    this.all.push({ level, place, what, ...(hint === undefined ? {} : { hint }) });
  }
}
