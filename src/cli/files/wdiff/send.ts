/** @module `walb wdiff send VOL FILE` */
import { basename } from "node:path";
import { WalbError } from "../../../errors.ts";
import { primaryArchive } from "../../../fleet/fleet.ts";
import type { ServerReference } from "../../../http/client.ts";
import { parseDiffFileName } from "../../../snapshot/filename.ts";
import { type DiffMeta, diffMeta, snapshot } from "../../../snapshot/types.ts";
import { refusedError } from "../../../wire/words.ts";
import { type ClientFlagValues, clientFlags, loadFleet } from "../../common.ts";
import { asAddressText, asGid, asSize, asText, asVolume, option, parseAddress, toggle } from "../../flags.ts";
import { parseTime } from "../../text/time.ts";
import { defineVerb, type Io } from "../../verb.ts";
import { asUuid, blocksOf, tell } from "../common.ts";
import { sendDiff } from "../lib/diff-send.ts";
import { withTool } from "../lib/tool.ts";

const plain = { isFromEnvironment: false } as const;

export const verb = defineVerb({
  summary: "Delivers one wdiff to an archive, as a proxy does: to bring in a diff by hand",
  description:
    "The snapshots between which it lies are those of its name, YYYYMMDDhhmmss-MC-FROM-TO.wdiff, unless they are given.",
  positionals: [
    { name: "VOL", help: "volume of the archive", isRequired: true },
    { name: "FILE", help: "wdiff, - for standard input", isRequired: true },
  ],
  flags: {
    from: option("GID", "clean snapshot it begins at", asGid, plain),
    to: option("GID", "clean snapshot it ends at", asGid, plain),
    at: option("TIME", "its time; default that of its name, else now", asText, plain),
    unmergeable: toggle("the snapshot it begins at must stay restorable"),
    size: option("SIZE", "size of the volume; default up to the end of the diff", asSize, plain),
    uuid: option("UUID", "uuid of the log it comes from; default that of the file", asUuid, plain),
    ...clientFlags,
  },
  examples: [
    "walb wdiff send vol0 20260102030405-M--4-5.wdiff --server backup1:10200",
    "walb wdiff send vol0 - --from 4 --to 5 --size 10G --server a0 < vol0.wdiff",
  ],
  exits: { 3: "the archive is not reachable", 4: "the archive refuses the diff: the message says why", 5: "damaged" },
  async run({ flags, args, io }) {
    const [volume, file] = [asVolume(args[0]!), args[1]!];
    const archive = archiveOf(flags, io);
    const diff = metaOf(file, flags, io);
    const how = { quiet: flags.quiet, clusterKey: archive.clusterKey };
    const sent = await withTool(io, "send", how, (tool) =>
      sendDiff(tool, file, {
        archive: parseAddress(archive.address),
        volume,
        diff,
        clientId: `walb wdiff send at ${tool.platform.hostName}`,
        ...(flags.size === undefined ? {} : { sizeLb: blocksOf(flags.size, "size") }),
        ...(flags.uuid === undefined ? {} : { uuid: flags.uuid }),
        ...(flags.timeout === undefined ? {} : { timeoutMs: flags.timeout }),
      }),
    );
    const { answer, ...rest } = sent;
    if (answer.kind !== "accept") throw refusal(volume, archive.name, sent.uuid, answer);
    const { from, to } = diff;
    const told = { volume, archive: archive.name, from: from.gidB, to: to.gidB, ...rest };
    tell(flags, io, told, `${archive.name} has taken the diff of ${volume} from gid ${from.gidB} to ${to.gidB}`);
    return 0;
  },
});

function archiveOf(flags: Pick<ClientFlagValues, "server" | "fleet" | "cluster-key">, io: Io): ServerReference {
  const { server: name } = flags;
  const fleet = loadFleet(flags, io);
  if (name === undefined) return primaryArchive(fleet);
  const known = fleet.servers.find((server) => server.name === name);
  const { clusterKey } = fleet;
  return known ?? { name, address: asAddressText(name), ...(clusterKey === undefined ? {} : { clusterKey }) };
}

/** The diff's own name says what it is; flags win. */
function metaOf(
  file: string,
  flags: {
    readonly from: bigint | undefined;
    readonly to: bigint | undefined;
    readonly at: string | undefined;
    readonly unmergeable: boolean;
  },
  io: Io,
): DiffMeta {
  const { from, to } = flags;
  const name = basename(file);
  const isNamed = /^\d{14}-..-\d/.test(name);
  const named = isNamed && (from === undefined || to === undefined) ? parseDiffFileName(name) : undefined;
  const [begin, end] = [
    from === undefined ? named?.from : snapshot(from, from, "from"),
    to === undefined ? named?.to : snapshot(to, to, "to"),
  ];
  if (begin === undefined || end === undefined) {
    throw new WalbError("usage", {
      what: `the name ${JSON.stringify(name)} does not say between which snapshots it lies`,
      where: { field: from === undefined ? "from" : "to" },
      hint: "add --from GID --to GID",
    });
  }
  const nowS = Math.floor(io.nowMs() / 1000);
  return diffMeta({
    from: begin,
    to: end,
    isMergeable: !flags.unmergeable && (named?.isMergeable ?? true),
    isCompared: named?.isCompared ?? false,
    timestampS:
      flags.at === undefined ? (named?.timestampS ?? nowS) : Math.floor(parseTime(flags.at, io.nowMs()) / 1000),
    dataSizeBytes: 0,
  });
}

const hints = (volume: string, archive: string): Readonly<Record<string, string>> => ({
  "too-old-diff": "the archive has what it holds already",
  "too-new-diff": "the archive lacks the diffs before it: send those first",
  "different-uuid":
    "it comes from a log the volume does not follow: --uuid gives another one, when you know it is right",
  "smaller-lv-size": `the volume of the archive is smaller, grow it first: walb resize ${volume} SIZE --server ${archive}`,
  stopped: `start the volume first: walb start ${volume} --server ${archive}`,
});

function refusal(volume: string, archive: string, uuid: string, answer: Parameters<typeof refusedError>[2]): WalbError {
  const { code, what, where } = refusedError(archive, `the diff of log ${uuid}`, answer);
  const hint = answer.kind === "word" ? hints(volume, archive)[answer.word] : undefined;
  return new WalbError(code, { what, where, ...(hint === undefined ? {} : { hint }) });
}
