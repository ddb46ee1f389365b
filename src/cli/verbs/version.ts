/** @module `walb version` */
import { version } from "../../control/version.ts";
import { toggle } from "../flags.ts";
import { defineVerb } from "../verb.ts";

export const verb = defineVerb({
  summary: "Prints the version of walb",
  flags: { json: toggle("one JSON value on stdout instead of text") },
  examples: ["walb version", "walb version --json"],
  async run({ flags, io }) {
    io.out(flags.json ? `${JSON.stringify({ version })}\n` : `walb ${version}\n`);
    return 0;
  },
});
