/** @module `walb key show [FILE]`: names the keys of a file without showing them. */
import { print } from "../common.ts";
import { defineVerb } from "../verb.ts";
import { keyFlags, keyPositional } from "./common.ts";
import { keyFileOf, readKeys } from "./file.ts";

export const verb = defineVerb({
  summary: "Shows the fingerprints of the keys in a file; they are no secret",
  positionals: [keyPositional],
  flags: keyFlags,
  examples: ["walb key show", "walb key show /etc/walb/cluster-key"],
  async run({ flags, args, io }) {
    const keys = readKeys(io, keyFileOf(args, flags));
    const fingerprints = keys.all.map(({ fingerprint }) => fingerprint);
    print(flags, io, { file: keys.source, fingerprints }, fingerprints.map((text) => `${text}\n`).join(""));
    return 0;
  },
});
