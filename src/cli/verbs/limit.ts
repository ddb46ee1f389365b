/** @module `walb limit`: rates of an archive's large work. */
import { WalbError } from "../../errors.ts";
import { primaryArchive } from "../../fleet/fleet.ts";
import { callOptions, clientFlags, loadFleet, print } from "../common.ts";
import { asSize, option } from "../flags.ts";
import { archiveClient, namedServer } from "../servers.ts";
import { formatSize } from "../text/size.ts";
import { defineVerb } from "../verb.ts";

export const verb = defineVerb({
  summary: "Shows or changes how much an archive does per second; also of work that is running",
  description: "A limit holds until the archive is restarted. 0 takes it away. Without flags the limits are shown.",
  positionals: [],
  flags: {
    apply: option("SIZE", "data applied per second", asSize),
    restore: option("SIZE", "data restored per second", asSize),
    merge: option("SIZE", "data merged per second", asSize),
    scan: option("SIZE", "data verified, hashed or streamed per second", asSize),
    ...clientFlags,
  },
  examples: ["walb limit", "walb limit --apply 50M --scan 20M", "walb limit --apply 0 --server backup1:10200"],
  async run({ flags, io }) {
    const server =
      flags.server === undefined ? primaryArchive(loadFleet(flags, io)) : await namedServer(flags, io, flags.server);
    if (server.role !== "archive") {
      throw new WalbError("usage", { what: `${server.name} is a ${server.role} server, this needs an archive` });
    }
    const rates = await archiveClient(server).call(
      "set-rates",
      {
        ...(flags.apply === undefined ? {} : { applyBytesPerS: flags.apply }),
        ...(flags.restore === undefined ? {} : { restoreBytesPerS: flags.restore }),
        ...(flags.merge === undefined ? {} : { mergeBytesPerS: flags.merge }),
        ...(flags.scan === undefined ? {} : { scanBytesPerS: flags.scan }),
      },
      callOptions(flags, io),
    );
    const line = (name: string, bytesPerS: number): string =>
      `${name} ${bytesPerS === 0 ? "no limit" : `${formatSize(bytesPerS)}/s`}`;
    const text = [
      line("apply", rates.applyBytesPerS),
      line("restore", rates.restoreBytesPerS),
      line("merge", rates.mergeBytesPerS),
      line("scan", rates.scanBytesPerS),
    ].join("\n");
    print(flags, io, rates, `${text}\n`);
    return 0;
  },
});
