/** @module `walb limit`: rates of the large work of archives and storages. */
import { WalbError } from "../../errors.ts";
import { type FleetServer, primaryArchive } from "../../fleet/fleet.ts";
import { type ClientFlagValues, callOptions, clientFlags, loadFleet, print } from "../common.ts";
import { asSize, option } from "../flags.ts";
import { archiveClient, namedServer, storageClient } from "../servers.ts";
import { formatSize } from "../text/size.ts";
import { defineVerb, type Io } from "../verb.ts";

export const verb = defineVerb({
  summary: "Shows or changes how much an archive or a storage does per second; also of work that is running",
  description:
    "A limit holds until the daemon is restarted. 0 takes it away. Without flags the limits are shown. A storage has " +
    "one: --scan, for the reads of full and hash backups.",
  positionals: [],
  flags: {
    apply: option("SIZE", "data applied per second", asSize),
    restore: option("SIZE", "data restored per second", asSize),
    merge: option("SIZE", "data merged per second", asSize),
    scan: option("SIZE", "data verified, hashed or streamed per second", asSize),
    ...clientFlags,
  },
  examples: [
    "walb limit",
    "walb limit --apply 50M --scan 20M",
    "walb limit --apply 0 --server backup1:10200",
    "walb limit --scan 100M --server s0",
  ],
  async run({ flags, io }) {
    const server =
      flags.server === undefined ? primaryArchive(loadFleet(flags, io)) : await namedServer(flags, io, flags.server);
    if (server.role === "storage") return limitStorage(server, flags, io);
    if (server.role !== "archive") {
      throw new WalbError("usage", { what: `${server.name} is a proxy: it has no rates` });
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

const line = (name: string, bytesPerS: number): string =>
  `${name} ${bytesPerS === 0 ? "no limit" : `${formatSize(bytesPerS)}/s`}`;

interface LimitFlags extends ClientFlagValues {
  readonly apply: number | undefined;
  readonly restore: number | undefined;
  readonly merge: number | undefined;
  readonly scan: number | undefined;
}

async function limitStorage(server: FleetServer, flags: LimitFlags, io: Io): Promise<number> {
  if (flags.apply !== undefined || flags.restore !== undefined || flags.merge !== undefined) {
    throw new WalbError("usage", {
      what: `${server.name} is a storage: of the limits it has only --scan`,
      hint: `e.g. walb limit --scan 100M --server ${server.name}`,
    });
  }
  const rate = flags.scan === undefined ? {} : { bytesPerS: flags.scan };
  const { bytesPerS } = await storageClient(server).call("set-scan-rate", rate, callOptions(flags, io));
  print(flags, io, { scanBytesPerS: bytesPerS }, `${line("scan", bytesPerS)}\n`);
  return 0;
}
