/** @module `walb key token [FILE]`: the token for HTTP clients that cannot prove the key. */
import { tokenOf } from "../../secure/token.ts";
import { print } from "../common.ts";
import { toggle } from "../flags.ts";
import { defineVerb } from "../verb.ts";
import { keyFlags, keyPositional } from "./common.ts";
import { keyFileOf, readKeys } from "./file.ts";

export const verb = defineVerb({
  summary: "Prints the token with which Prometheus, curl and browsers get in over https",
  description:
    "A request shows it as `Authorization: Bearer TOKEN`; a browser asks for it as a password, with any user name. The " +
    "token is made of the first key of the file: daemons know it without being told, and it changes with the key. Without " +
    "--monitor it allows all that the key allows over HTTP.",
  positionals: [keyPositional],
  flags: { ...keyFlags, monitor: toggle("a token that allows to look only: metrics, status, jobs") },
  examples: ["walb key token", "walb key token --monitor > /etc/prometheus/walb-token"],
  async run({ flags, args, io }) {
    const keys = readKeys(io, keyFileOf(args, flags));
    const token = tokenOf(keys.all[0], flags.monitor ? "monitor" : "full");
    print(flags, io, { token, fingerprint: keys.all[0].fingerprint }, `${token}\n`);
    return 0;
  },
});
