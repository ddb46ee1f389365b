/** @module `walb check`: are the fleet file and the servers as they should be. */
import { existsSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { commonCommands } from "../../control/common.ts";
import { asWalbError, exitCodes, WalbError } from "../../errors.ts";
import { checkFleetFile } from "../../fleet/check/file.ts";
import { type Finding, Findings } from "../../fleet/check/findings.ts";
import { checkServers, type Probe } from "../../fleet/check/servers.ts";
import { archiveClient, proxyClient, storageClient } from "../../fleet/clients.ts";
import { defaultFleet, type Fleet, type FleetServer, withClusterKey } from "../../fleet/fleet.ts";
import { Client } from "../../http/client.ts";
import { clientFlags, print, readFleetFile } from "../common.ts";
import { toggle } from "../flags.ts";
import { readKeys } from "../key/file.ts";
import { parseSize } from "../text/size.ts";
import { parseDuration } from "../text/time.ts";
import { defineVerb, type Io } from "../verb.ts";

const probeTimeoutMs = 10_000;

export const verb = defineVerb({
  summary: "Checks the fleet file, asks every server, and says what is wrong and what to do",
  description:
    "Finds mistakes before they cost a backup: in the file, between the file and the servers, and along the path of each " +
    "volume. Changes nothing.",
  flags: {
    "file-only": toggle("ask no server"),
    json: clientFlags.json,
    timeout: clientFlags.timeout,
    fleet: clientFlags.fleet,
    "cluster-key": clientFlags["cluster-key"],
  },
  examples: ["walb check", "walb check --fleet ./walb.toml --file-only"],
  exits: { 1: "something is wrong; warnings alone do not count" },
  async run({ flags, io }) {
    const { file, fleet, isComplete, findings } = readFile(flags, io);
    const keyed = fleet === undefined ? undefined : keyedFleet(fleet, flags["cluster-key"], io, findings);
    if (keyed !== undefined && isComplete && !flags["file-only"]) {
      const timeoutMs = flags.timeout ?? probeTimeoutMs;
      const probes = await Promise.all(keyed.servers.map((server) => probe(server, io, timeoutMs)));
      checkServers(keyed, probes, findings);
    }
    const errors = findings.all.filter(({ level }) => level === "error");
    const isGood = errors.length === 0;
    print(flags, io, { file, isGood, findings: findings.all }, render(file, findings.all));
    return isGood ? exitCodes.done : exitCodes.failed;
  },
});

function readFile(flags: { readonly fleet: string | undefined }, io: Io) {
  const candidates = flags.fleet === undefined ? ["walb.toml", "/etc/walb/walb.toml"] : [flags.fleet];
  for (const candidate of candidates) {
    const file = resolve(io.cwd, candidate);
    if (!existsSync(file)) continue;
    const read = checkFleetFile(readFleetFile(file), file, { duration: parseDuration, size: parseSize });
    return { file, ...read };
  }
  if (flags.fleet !== undefined) {
    throw new WalbError("usage", {
      what: "the fleet file is not there",
      where: { file: resolve(io.cwd, flags.fleet) },
      hint: "see the example in: docs/operations/install.md",
    });
  }
  return { file: undefined, fleet: defaultFleet, isComplete: true, findings: new Findings() };
}

/** The fleet with its key, when that can be used. */
function keyedFleet(fleet: Fleet, given: string | undefined, io: Io, findings: Findings): Fleet {
  const named = given === undefined ? fleet.clusterKey : resolve(io.cwd, given);
  if (named === undefined) return fleet;
  const path = resolve(dirname(fleet.file ?? io.cwd), named);
  if (!existsSync(path)) {
    findings.error("cluster-key", `there is no ${path}`, "make one: walb key new FILE, and copy it to every host");
    return fleet;
  }
  try {
    readKeys(io, path);
  } catch (thrown) {
    const { what, hint } = asWalbError(thrown);
    findings.error("cluster-key", `${path}: ${what}`, hint);
    return fleet;
  }
  return withClusterKey(fleet, path);
}

async function probe(server: FleetServer, io: Io, timeoutMs: number): Promise<Probe> {
  const options = { signal: io.signal, timeoutMs };
  try {
    const beforeMs = io.nowMs();
    const info = await new Client(server, commonCommands).call("version", {}, options);
    const answer = { server, info, askedMs: [beforeMs, io.nowMs()] as const };
    // What is at the address decides what can be asked.
    if (info.role === "storage") return { ...answer, storage: await storageClient(server).call("status", {}, options) };
    if (info.role === "proxy") return { ...answer, proxy: await proxyClient(server).call("status", {}, options) };
    return { ...answer, archive: await archiveClient(server).call("status", {}, options) };
  } catch (thrown) {
    const { what, hint } = asWalbError(thrown);
    return { server, error: { message: what, ...(hint === undefined ? {} : { hint }) } };
  }
}

function render(file: string | undefined, findings: readonly Finding[]): string {
  const lines = findings.map(
    ({ level, place, what, hint }) => `${level}: ${place}: ${what}\n${hint === undefined ? "" : `  ${hint}\n`}`,
  );
  const errorCount = findings.filter(({ level }) => level === "error").length;
  const warningCount = findings.length - errorCount;
  const source = file ?? "no fleet file, the default fleet";
  const verdict = findings.length === 0 ? "all is well" : `${errorCount} errors, ${warningCount} warnings`;
  return `${lines.join("")}${source}: ${verdict}\n`;
}
