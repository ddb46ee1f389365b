/** @module `walb key new [FILE]`: makes a cluster key. */
import { mkdirSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { createRandom } from "../../platform/real/random.ts";
import { writeSecretFile } from "../../platform/real/secret.ts";
import { ClusterKey, formatKeyFile } from "../../secure/key.ts";
import { print } from "../common.ts";
import { toggle } from "../flags.ts";
import { defineVerb } from "../verb.ts";
import { keyFlags, keyPositional } from "./common.ts";
import { keyFileOf } from "./file.ts";

export const verb = defineVerb({
  summary: "Makes a cluster key: one file, to be copied to all hosts, that protects all connections between them",
  description:
    "A file that is there is left as it is. Who has the file can read and delete backups: copy it over ssh only. --print " +
    "is for changing keys: a file may hold several, see docs/operations/security.md.",
  positionals: [keyPositional],
  flags: { ...keyFlags, print: toggle("print the line of a new key instead of making a file") },
  examples: ["walb key new", "walb key new /etc/walb/cluster-key", "walb key new --print >> /etc/walb/cluster-key"],
  async run({ flags, args, io }) {
    const key = new ClusterKey(createRandom().bytes(32));
    if (flags.print) {
      io.out(formatKeyFile(key));
      return 0;
    }
    const file = resolve(io.cwd, keyFileOf(args, flags));
    mkdirSync(dirname(file), { recursive: true, mode: 0o755 });
    writeSecretFile(file, formatKeyFile(key));
    const text =
      `${file}: cluster key ${key.fingerprint}\n` +
      `Copy it to every host of the cluster:   scp -p ${file} HOST:${file}\n` +
      `Start every daemon with it:             walb archive --listen 0.0.0.0 --cluster-key ${file}\n` +
      `Tell the commands, in walb.toml:        cluster-key = "${file}"\n`;
    print(flags, io, { file, fingerprint: key.fingerprint }, text);
    return 0;
  },
});
