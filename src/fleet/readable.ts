/** @module What can still be read of settings of which some are wrong, so that one mistake hides no other. Pure. */
import type { z } from "zod";

/** Deep enough for any of our files: each round takes away what the one before made incomplete. */
const roundsMax = 8;

/** The rest of the settings, and the dotted paths of what was taken away. */
export interface Readable<Settings> {
  readonly settings: Settings;
  readonly wrong: readonly string[];
}

/** Takes away what a schema finds wrong, and what is incomplete without it. undefined when nothing is left to read. */
export function readableOf<Schema extends z.ZodType>(
  schema: Schema,
  raw: Readonly<Record<string, unknown>>,
): Readable<z.output<Schema>> | undefined {
  const rest = copyOf(raw);
  const wrong: string[] = [];
  for (let round = 0; round < roundsMax; round++) {
    const parsed = schema.safeParse(rest);
    if (parsed.success) return { settings: parsed.data, wrong };
    // From the last on: what goes out of a list moves what is behind it.
    for (const issue of parsed.error.issues.toReversed()) {
      const paths =
        issue.code === "unrecognized_keys" ? issue.keys.map((key) => [...issue.path, key]) : [[...issue.path]];
      for (const path of paths) {
        wrong.push(path.join("."));
        takeAway(rest, path);
      }
    }
  }
  return undefined;
}

/** Removes a value; of one that is missing what it is missing in. */
function takeAway(root: unknown, path: readonly PropertyKey[]): void {
  const last = path.at(-1);
  if (last === undefined) return;
  const above = path
    .slice(0, -1)
    .reduce<unknown>((value, key) => (isObject(value) ? Reflect.get(value, key) : undefined), root);
  if (!isObject(above)) return;
  if (Reflect.get(above, last) === undefined) takeAway(root, path.slice(0, -1));
  else if (Array.isArray(above)) above.splice(Number(last), 1);
  else Reflect.deleteProperty(above, last);
}

/** Tables and lists anew; what is in them may be of any kind, as dates are that cannot be cloned. */
function copyOf(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(copyOf);
  if (!isObject(value) || Object.getPrototypeOf(value) !== Object.prototype) return value;
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, copyOf(inner)]));
}

function isObject(value: unknown): value is object {
  return typeof value === "object" && value !== null;
}
