/** @module `walb key certificates DIR`: what NBD clients, curl, browsers and Prometheus need to trust us, and we them. */
import { mkdirSync, renameSync, writeFileSync } from "node:fs";
import { resolve } from "node:path";
import { createRandom } from "../../platform/real/random.ts";
import { authoritiesPem, issueClient } from "../../secure/authority.ts";
import { print } from "../common.ts";
import { asInt, asText, optionOr, toggle } from "../flags.ts";
import { defineVerb } from "../verb.ts";
import { keyFlags } from "./common.ts";
import { keyFileOf, readKeys } from "./file.ts";

export const verb = defineVerb({
  summary: "Writes certificates for clients of other makes: NBD clients, curl, Prometheus, browsers",
  description:
    "ca-cert.pem tells such a client that a daemon has the cluster key. client-cert.pem and client-key.pem let an NBD client " +
    "in: they are as secret as the volumes. The names are those that QEMU and libnbd look for in a directory.",
  positionals: [{ name: "DIR", help: "directory to write to; files in it are replaced", isRequired: true }],
  flags: {
    ...keyFlags,
    name: optionOr("NAME", "name in the client's certificate", asText, "walb-client"),
    days: optionOr("DAYS", "how long the client's certificate is good for", asInt(1, 36_500), "3650"),
    "ca-only": toggle("write ca-cert.pem only"),
  },
  examples: ["walb key certificates /etc/walb/certificates", "walb key certificates ./qemu1 --name qemu1 --days 365"],
  async run({ flags, args, io }) {
    const directory = resolve(io.cwd, args[0]!);
    const keys = readKeys(io, keyFileOf([], flags));
    const context = { nowMs: io.nowMs, randomBytes: createRandom().bytes };
    const files: [string, string, number][] = [["ca-cert.pem", authoritiesPem(keys), 0o644]];
    if (!flags["ca-only"]) {
      const { certificatePem, keyPem } = issueClient(keys, flags.name, flags.days, context);
      files.push(["client-cert.pem", certificatePem, 0o644], ["client-key.pem", keyPem, 0o600]);
    }
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    for (const [name, text, mode] of files) {
      const temporary = `${directory}/${name}.${process.pid}.tmp`;
      writeFileSync(temporary, text, { mode, flag: "wx" });
      renameSync(temporary, `${directory}/${name}`);
    }
    const paths = files.map(([name]) => `${directory}/${name}`);
    print(flags, io, { files: paths, fingerprint: keys.all[0].fingerprint }, paths.map((path) => `${path}\n`).join(""));
    return 0;
  },
});
