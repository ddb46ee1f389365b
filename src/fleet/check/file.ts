/** @module Checks the fleet file alone, without asking anybody. Pure. */
import { WalbError } from "../../errors.ts";
import { type Fleet, readFleetText, serversOf } from "../fleet.ts";
import { formatDuration } from "../format.ts";
import { parseKeep } from "../worker/keep.ts";
import { type Readers, workerPolicy } from "../worker/policy.ts";
import { Findings } from "./findings.ts";

/** Points are about this far apart while a volume is written to. */
const pointsApartMs = 10_000;

/** Checks the text of a fleet file. @returns the fleet as far as it can be read, and whether that is all of it. */
export function checkFleetFile(
  text: string,
  file: string,
  readers: Readers,
): { fleet?: Fleet; isComplete: boolean; findings: Findings } {
  const findings = new Findings();
  const { fleet, problems, missing } = readFleetText(text, file);
  for (const { field, what } of problems) {
    findings.error(field === "" ? "the file" : field, what, hintOf(field));
  }
  if (fleet === undefined) return { isComplete: false, findings };
  const further = new Findings();
  checkServers(fleet, further);
  checkVolumes(knownDevices(fleet, missing), readers, further);
  workerPolicy(fleet.worker, readers, (error) => tell(further, error));
  // What is said of a thing a part of which could not be read may come from that.
  const isUnsure = (place: string): boolean => missing.some((path) => path === place || path.startsWith(`${place}.`));
  findings.all.push(...further.all.filter(({ place }) => !isUnsure(place)));
  return { fleet, isComplete: missing.length === 0, findings };
}

/** The fleet in which a device that could not be read, or whose storage could not, is no other volume's. */
function knownDevices(fleet: Fleet, missing: readonly string[]): Fleet {
  const volumes = Object.entries(fleet.volumes).map(([name, volume]) => {
    const isKnown = !["storage", "device"].some((field) => missing.includes(`volumes.${name}.${field}`));
    return [name, isKnown ? volume : { ...volume, device: `that of ${name}` }] as const;
  });
  return { ...fleet, volumes: Object.fromEntries(volumes) };
}

function hintOf(field: string): string | undefined {
  if (/^servers\.[^.]+\.address$/.test(field)) return 'for example address = "backup1:10200"';
  if (field === "servers") return 'for example [servers.a0] role = "archive" address = "backup1:10200"';
  if (/^servers\.[^.]+\.role$/.test(field)) return 'role is "storage", "proxy" or "archive"';
  if (/^worker\.(apply|merge|replicate)\.every$/.test(field)) return 'for example every = "1h"';
  if (field === "worker.apply.keep") return 'for example keep = "14d"';
  if (/^volumes\.[^.]+\.keep\b/.test(field)) return 'for example keep = { all = "2h", daily = "14d" }';
  if (/^volumes\.[^.]+\.drill\.every$/.test(field)) return 'for example drill = { every = "7d" }';
  return undefined;
}

function checkServers(fleet: Fleet, findings: Findings): void {
  for (const role of ["storage", "proxy", "archive"] as const) {
    if (serversOf(fleet, role).length > 0) continue;
    const port = { storage: 10000, proxy: 10100, archive: 10200 }[role];
    const [name] = role;
    findings.error(
      "servers",
      `there is no ${role}`,
      `add [servers.${name}0] role = "${role}" address = "HOST:${port}"`,
    );
  }
  const seen = new Map<string, string>();
  for (const { name, address } of fleet.servers) {
    const key = address.toLowerCase();
    const twin = seen.get(key);
    if (twin !== undefined) {
      findings.error(`servers.${name}.address`, `${address} is the address of ${twin}, too`, "each daemon has its own");
    }
    seen.set(key, name);
  }
  for (const { name, address } of fleet.servers) {
    if (!/^(0\.0\.0\.0|\[::\]):/.test(address)) continue;
    findings.error(
      `servers.${name}.address`,
      `${address} stands for all addresses of a host, which a daemon may listen on; nobody is reached there`,
      "write the name or address of the host",
    );
  }
  const isLocal = ({ address }: { address: string }): boolean => /^(localhost|127\.|\[::1\])/i.test(address);
  const local = fleet.servers.filter(isLocal);
  if (local.length > 0 && local.length < fleet.servers.length) {
    for (const { name, address } of local) {
      findings.warn(
        `servers.${name}.address`,
        `${address} is another host for each host that reads this file`,
        "name the host as the others reach it",
      );
    }
  }
}

function checkVolumes(fleet: Fleet, readers: Readers, findings: Findings): void {
  const storages = serversOf(fleet, "storage");
  const devices = new Map<string, string>();
  for (const [volume, entry] of Object.entries(fleet.volumes)) {
    const place = `volumes.${volume}`;
    if (entry.storage === undefined && storages.length > 1) {
      const hint = `add storage = "${storages[0]?.name}"`;
      findings.error(
        `${place}.storage`,
        `there are ${storages.length} storages, and it is not said which one has it`,
        hint,
      );
    }
    // Without a device it is that of the volume's name, and /dev/walb/NAME is NAME.
    const device = (entry.device ?? volume).replace(/^\/dev\/walb\//, "");
    const key = `${entry.storage ?? storages[0]?.name ?? ""} ${device}`;
    const twin = devices.get(key);
    if (twin !== undefined) {
      findings.error(`${place}.device`, `${device} is the device of ${twin}, too`, "a device is one volume");
    }
    devices.set(key, volume);
    const replicas = entry.replicate ?? [];
    if (fleet.servers.some(({ name, isPrimary }) => isPrimary && replicas.includes(name))) {
      findings.error(`${place}.replicate`, "the primary archive has it already", "name other archives only");
    }
    const twice = replicas.find((name, i) => replicas.indexOf(name) !== i);
    if (twice !== undefined) findings.error(`${place}.replicate`, `${twice} is named twice`);
    if (entry.keep !== undefined) checkKeep(entry.keep, place, readers, findings);
    if (entry.drill !== undefined) {
      const { every } = entry.drill;
      trySettings(findings, () => durationOf(every, `${place}.drill.every`, readers));
      findings.warn(
        `${place}.drill`,
        "nothing drills yet: it has no effect",
        `until then run from cron: walb verify ${volume}`,
      );
    }
  }
}

function checkKeep(
  rules: Readonly<Record<string, string | number>>,
  place: string,
  readers: Readers,
  findings: Findings,
): void {
  // One by one, so that a wrong one hides no other.
  const entries = Object.entries(rules);
  const parsed = entries.flatMap(
    ([name, value]) =>
      trySettings(findings, () => parseKeep({ [name]: value }, readers.duration, `${place}.keep`)) ?? [],
  );
  if (parsed.length < entries.length) return;
  if (parsed.length === 0)
    findings.error(`${place}.keep`, "there are no rules in it", 'for example { all = "2h", daily = "14d" }');
  const longest = Math.max(0, ...parsed.map(({ forMs }) => forMs));
  if (parsed.length > 0 && longest < 3_600_000) {
    findings.warn(`${place}.keep`, `no point is kept for longer than ${formatDuration(longest)}`, "is that meant?");
  }
  const spans = parsed.map(({ name, forMs, intervalStartMs }) => {
    const intervalMs = name === "all" ? pointsApartMs : nextStart(intervalStartMs) - intervalStartMs(0);
    return { name, forMs, intervalMs };
  });
  for (const { name, forMs, intervalMs } of spans) {
    const field = `${place}.keep.${name}`;
    if (forMs < intervalMs) {
      findings.error(
        field,
        `it keeps points for ${formatDuration(forMs)}, which is shorter than its interval`,
        `keep them for at least ${formatDuration(intervalMs)}`,
      );
      continue;
    }
    const finer = spans.find((other) => other.intervalMs < intervalMs && other.forMs >= forMs);
    if (finer === undefined) continue;
    const finerText = Number.isFinite(finer.forMs) ? `for ${formatDuration(finer.forMs)}` : "forever";
    findings.warn(
      field,
      `it adds nothing: ${finer.name} keeps more points, ${finerText}`,
      `leave ${name} out, or let it keep points for longer than ${finer.name}`,
    );
  }
}

/** Start of the interval behind that of time 0. */
function nextStart(startOf: (timeMs: number) => number): number {
  const first = startOf(0);
  let low = 0;
  let high = 400 * 86_400_000;
  while (high - low > 1) {
    const middle = Math.floor((low + high) / 2);
    if (startOf(middle) === first) low = middle;
    else high = middle;
  }
  return startOf(high);
}

function durationOf(text: string, field: string, readers: Readers): number {
  try {
    return readers.duration(text);
  } catch (cause) {
    throw new WalbError("usage", { what: `${JSON.stringify(text)} is not a duration`, where: { field }, cause });
  }
}

/** Runs what reads settings; a mistake becomes a finding. */
function trySettings<T>(findings: Findings, work: () => T): T | undefined {
  try {
    return work();
  } catch (error) {
    if (!(error instanceof WalbError) || error.code !== "usage") throw error;
    tell(findings, error);
    return undefined;
  }
}

function tell(findings: Findings, { where, what, hint }: WalbError): void {
  findings.error(where.field ?? "the file", what.replace("the fleet file is wrong: ", ""), hint);
}
