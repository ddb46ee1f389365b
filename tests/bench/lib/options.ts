/** @module The command line of the benchmark. */
import { parseArgs } from "node:util";

export interface Options {
  readonly isQuick: boolean;
  /** Names of paths; empty for all. */
  readonly only: readonly string[];
  /** Connections between daemons are protected. */
  readonly hasClusterKey: boolean;
  /** Where to write JSON. */
  readonly jsonPath: string | undefined;
}

/** @throws with a text to print when the words are not right. */
export function parseOptions(words: readonly string[], pathNames: readonly string[]): Options | "help" {
  const { values } = parseArgs({
    args: [...words],
    options: {
      quick: { type: "boolean", default: false },
      only: { type: "string", multiple: true, default: [] },
      "cluster-key": { type: "boolean", default: false },
      json: { type: "string" },
      help: { type: "boolean", short: "h", default: false },
    },
  });
  if (values.help) return "help";
  const only = values.only.flatMap((names) => names.split(","));
  const unknown = only.find((name) => !pathNames.includes(name));
  if (unknown !== undefined) throw new Error(`there is no path ${unknown}; there are ${pathNames.join(", ")}`);
  return { isQuick: values.quick, only, hasClusterKey: values["cluster-key"], jsonPath: values.json };
}
