/** @module Checks what the servers of a fleet say against the fleet file and against each other. Pure. */
import type { ArchiveStatus } from "../../control/archive-schemas.ts";
import type { ServerInfo } from "../../control/common.ts";
import type { ProxyStatus } from "../../control/proxy.ts";
import type { StorageStatus } from "../../control/storage.ts";
import { lbBytes } from "../../units.ts";
import { type Fleet, type FleetServer, isSameAddress, primaryArchive, serversOf, storageOf } from "../fleet.ts";
import { formatDuration, formatSize } from "../format.ts";
import type { Findings } from "./findings.ts";

/** What one server answered. */
export interface Probe {
  readonly server: FleetServer;
  /** Why it did not answer. */
  readonly error?: { readonly message: string; readonly hint?: string };
  readonly info?: ServerInfo;
  /** When it was asked, by the clock of whoever asks: before and after. */
  readonly askedMs?: readonly [number, number];
  readonly storage?: StorageStatus;
  readonly proxy?: ProxyStatus;
  readonly archive?: ArchiveStatus;
}

/** Clocks further apart make points in time wrong. */
const clockApartMsMax = 2_000;
const usageWarn = 0.7;
const freeWarn = 0.1;

/** Adds what the answers tell. */
export function checkServers(fleet: Fleet, probes: readonly Probe[], findings: Findings): void {
  for (const probe of probes) checkServer(fleet, probe, findings);
  checkNodes(probes, findings);
  checkVersions(probes, findings);
  const answered = probes.filter(({ info }) => info !== undefined);
  for (const probe of answered) {
    if (probe.storage !== undefined) checkStorage(fleet, { ...probe, storage: probe.storage }, answered, findings);
    if (probe.archive !== undefined) checkArchive(probe.server, probe.archive, findings);
  }
  for (const volume of volumesOf(fleet, answered)) checkVolume(fleet, volume, answered, findings);
}

function checkServer(fleet: Fleet, { server, error, info, askedMs }: Probe, findings: Findings): void {
  const place = `server ${server.name}`;
  if (error !== undefined) {
    findings.error(place, `${server.address} does not answer: ${error.message}`, error.hint);
    return;
  }
  if (info === undefined) return;
  if (info.role !== server.role) {
    findings.error(
      `servers.${server.name}.role`,
      `the daemon at ${server.address} has the role ${info.role}`,
      "change role or address",
    );
  }
  if (askedMs !== undefined) {
    const [beforeMs, afterMs] = askedMs;
    const apartMs = info.nowMs < beforeMs ? beforeMs - info.nowMs : Math.max(0, info.nowMs - afterMs);
    if (apartMs > clockApartMsMax) {
      const way = info.nowMs < beforeMs ? "behind" : "ahead";
      findings.error(
        place,
        `its clock is ${formatDuration(apartMs)} ${way} of the one here`,
        "let NTP set the clocks: a restore by time depends on them",
      );
    }
  }
  if (info.security === "insecure") {
    findings.warn(
      place,
      "it takes connections from anybody (--insecure)",
      "use a cluster key: walb key new, then --cluster-key",
    );
  } else if (fleet.clusterKey !== undefined && info.security !== "cluster-key") {
    findings.warn(
      place,
      "the fleet file names a cluster key, but this daemon runs without",
      "start it with --cluster-key",
    );
  }
}

function checkNodes(probes: readonly Probe[], findings: Findings): void {
  const seen = new Map<string, string>();
  for (const { server, info } of probes) {
    if (info === undefined) continue;
    // Roles on one host may share its name.
    const key = `${info.role} ${info.nodeId}`;
    const twin = seen.get(key);
    if (twin !== undefined) {
      findings.warn(
        `server ${server.name}`,
        `its node id ${info.nodeId} is that of ${twin}, too`,
        "give each daemon its own: --node ID",
      );
    }
    seen.set(key, server.name);
  }
}

function checkVersions(probes: readonly Probe[], findings: Findings): void {
  const versions = new Set(probes.flatMap(({ info }) => info?.version ?? []));
  if (versions.size < 2) return;
  const list = probes.flatMap(({ server, info }) => (info === undefined ? [] : [`${server.name} ${info.version}`]));
  findings.warn("servers", `they run different versions: ${list.join(", ")}`, "bring them to the same one");
}

type StorageProbe = Probe & { readonly storage: StorageStatus };

function checkStorage(fleet: Fleet, probe: StorageProbe, probes: readonly Probe[], findings: Findings): void {
  const { server, storage: status } = probe;
  const place = `server ${server.name}`;
  const archives = serversOf(fleet, "archive");
  const primary = archives.length === 0 ? undefined : primaryArchive(fleet);
  if (primary !== undefined && !isSameAddress(status.archive, primary.address)) {
    findings.error(
      place,
      `it was started with --archive ${status.archive}, but the primary archive is ${primary.name} at ${primary.address}`,
      `walb promote ${primary.name}, or mark the other archive as primary`,
    );
  }
  const proxies = serversOf(fleet, "proxy");
  for (const proxy of status.proxies) {
    const { address } = proxy;
    if (!proxies.some((proxy) => isSameAddress(proxy.address, address))) {
      findings.error(
        place,
        `it sends to a proxy ${address} that is not in [servers]`,
        `add it, or start it with another --proxy`,
      );
    } else if (!proxy.isAvailable) checkReach(probe, proxy, probes, findings);
  }
  for (const proxy of proxies) {
    if (status.proxies.some(({ address }) => isSameAddress(proxy.address, address))) continue;
    findings.warn(
      place,
      `it does not know the proxy ${proxy.name}, and cannot fall back on it`,
      `add it: --proxy …,${proxy.address}`,
    );
  }
}

/** A proxy that a storage could not reach when it last asked, which may have been before that was started. */
function checkReach(
  { server, info }: StorageProbe,
  { address, checkedMs, sinceMs, nextCheckMs, error }: StorageStatus["proxies"][number],
  probes: readonly Probe[],
  findings: Findings,
): void {
  const place = `server ${server.name}`;
  const started = probes.find((one) => one.info?.role === "proxy" && isSameAddress(one.server.address, address))?.info;
  // Each by its own clock: they may differ.
  const askedAgoMs = info === undefined || checkedMs === undefined ? 0 : info.nowMs - checkedMs;
  const upMs = started === undefined ? Number.POSITIVE_INFINITY : started.nowMs - started.startedMs;
  if (askedAgoMs > upMs) {
    const inMs = Math.max(0, (nextCheckMs ?? 0) - (info?.nowMs ?? 0));
    findings.warn(
      place,
      `it has not asked the proxy ${address} since that was started ${formatDuration(upMs)} ago`,
      `it asks again in ${formatDuration(inMs)}, or now: walb kick --server ${server.name}`,
    );
    return;
  }
  const forText = info === undefined || sinceMs === undefined ? "" : ` for ${formatDuration(info.nowMs - sinceMs)}`;
  findings.error(
    place,
    `it could not reach the proxy ${address}${forText}${error === undefined ? "" : `: ${error}`}`,
    started === undefined ? "start it, or look at the network between them" : "look at the network between them",
  );
}

function checkArchive(server: FleetServer, status: ArchiveStatus, findings: Findings): void {
  const spaces = [
    ["its data directory", status.freeBytes, status.totalBytes],
    [status.images, status.imagesFreeBytes, status.imagesTotalBytes],
  ] as const;
  for (const [what, freeBytes, totalBytes] of spaces) {
    if (freeBytes === undefined || totalBytes === undefined || totalBytes === 0) continue;
    if (freeBytes / totalBytes >= freeWarn) continue;
    findings.warn(
      `server ${server.name}`,
      `${what} has only ${formatSize(freeBytes)} of ${formatSize(totalBytes)} left`,
      "make room, or let points go: walb retain VOL",
    );
  }
}

function volumesOf(fleet: Fleet, probes: readonly Probe[]): string[] {
  const names = new Set(Object.keys(fleet.volumes));
  for (const { storage } of probes) for (const { volume } of storage?.volumes ?? []) names.add(volume);
  return [...names].sort();
}

/** Follows a volume along its path. */
function checkVolume(fleet: Fleet, volume: string, probes: readonly Probe[], findings: Findings): void {
  const place = `volume ${volume}`;
  const isNamed = Object.hasOwn(fleet.volumes, volume);
  const owners = probes.flatMap(({ server, storage }) => {
    const found = storage?.volumes.find((one) => one.volume === volume);
    return found === undefined || found.state === "Clear" ? [] : [{ server, found }];
  });
  const followed = owners.filter(({ found }) => found.state === "Target");
  if (followed.length > 1) {
    const names = followed.map(({ server }) => server.name).join(" and ");
    findings.error(
      place,
      `${names} ship it both: the archive takes only one log`,
      `make one of them standby: walb standby ${volume} --server ${followed[1]?.server.name}`,
    );
  }
  if (owners.length === 0) {
    const asked = probes.some(({ storage }) => storage !== undefined);
    if (asked)
      findings.error(
        place,
        "no storage has it",
        `walb init ${volume} --device ${fleet.volumes[volume]?.device ?? volume}`,
      );
    return;
  }
  if (!isNamed && fleet.file !== undefined) {
    findings.warn(
      place,
      `${owners[0]?.server.name} has it, but it is not in the fleet file`,
      `add [volumes.${volume}]`,
    );
  }
  const named = isNamed ? ownerOf(fleet, volume) : undefined;
  const owner = owners.find(({ server }) => server.name === named) ?? owners[0]!;
  if (named !== undefined && owner.server.name !== named) {
    findings.error(
      `volumes.${volume}.storage`,
      `${named} does not have it, but ${owner.server.name} does`,
      `say storage = "${owner.server.name}"`,
    );
  }
  const { found } = owner;
  const device = fleet.volumes[volume]?.device;
  if (
    device !== undefined &&
    found.device !== undefined &&
    device.replace(/^\/dev\/walb\//, "") !== found.device.name
  ) {
    findings.error(
      `volumes.${volume}.device`,
      `it is ${device} here, but ${found.device.name} at ${owner.server.name}`,
    );
  }
  if (found.isOverflow === true) {
    findings.error(place, "its log has overflowed: nothing is shipped any more", `walb backup ${volume}`);
  } else if (found.state === "SyncReady" || found.state === "Stopped") {
    const hint = found.state === "SyncReady" ? `walb backup ${volume}` : `walb start ${volume}`;
    findings.error(place, `it is ${found.state} at ${owner.server.name}: its writes are not being backed up`, hint);
  }
  const usage = (found.logUsagePb ?? 0) / Math.max(1, found.logCapacityPb ?? 1);
  if (found.isOverflow !== true && usage > usageWarn) {
    findings.warn(
      place,
      `${Math.round(usage * 100)} % of its log are in use`,
      "look at what holds up the delivery: walb status",
    );
  }
  checkDelivery(fleet, volume, found, probes, findings);
}

/** Proxies and archives of a volume. */
function checkDelivery(
  fleet: Fleet,
  volume: string,
  { sizeLb, device }: StorageStatus["volumes"][number],
  probes: readonly Probe[],
  findings: Findings,
): void {
  const place = `volume ${volume}`;
  if (serversOf(fleet, "archive").length === 0) return;
  // Repeated, it makes the volume where it is missing.
  const deviceName = device?.kind === "kernel" ? `/dev/walb/${device.name}` : (device?.name ?? "NAME");
  const initAgain = `walb init ${volume} --device ${deviceName}`;
  const primary = primaryArchive(fleet);
  for (const { server, proxy } of probes) {
    if (proxy === undefined) continue;
    const found = proxy.volumes.find((one) => one.volume === volume);
    if (found === undefined || found.state === "Clear") {
      findings.error(place, `the proxy ${server.name} does not know it`, initAgain);
      continue;
    }
    if (found.state === "Stopped") {
      findings.error(
        place,
        `it is Stopped at the proxy ${server.name}`,
        `walb start ${volume} --server ${server.name}`,
      );
    }
    const known = found.archives.find(({ archiveName }) => archiveName === primary.name);
    if (known === undefined && !found.archives.some(({ address }) => isSameAddress(address, primary.address))) {
      findings.error(
        place,
        `the proxy ${server.name} does not send it to the primary archive ${primary.name}`,
        `walb stop ${volume} --server ${server.name}, then: ${initAgain}`,
      );
    } else if (known !== undefined && !isSameAddress(known.address, primary.address)) {
      findings.error(
        place,
        `the proxy ${server.name} sends it to ${known.address} as ${primary.name}, which is at ${primary.address}`,
      );
    }
  }
  const wanted = [primary.name, ...(fleet.volumes[volume]?.replicate ?? [])];
  for (const { server, archive } of probes) {
    if (archive === undefined || !wanted.includes(server.name)) continue;
    const found = archive.volumes.find((one) => one.volume === volume);
    if (found === undefined || found.state === "Clear") {
      const hint = server.name === primary.name ? initAgain : `walb replicate ${volume} --to ${server.name}`;
      findings.error(place, `the archive ${server.name} does not know it`, hint);
      continue;
    }
    if (found.state === "Stopped") {
      findings.error(
        place,
        `it is Stopped at the archive ${server.name}`,
        `walb start ${volume} --server ${server.name}`,
      );
    }
    if (sizeLb !== undefined && found.sizeLb !== undefined && found.base !== undefined && found.sizeLb < sizeLb) {
      findings.error(
        place,
        `its image at ${server.name} has ${found.sizeLb} LB, the volume ${sizeLb}`,
        `walb resize ${volume} ${sizeLb * lbBytes} --server ${server.name}`,
      );
    }
  }
}

function ownerOf(fleet: Fleet, volume: string): string | undefined {
  try {
    return storageOf(fleet, volume).name;
  } catch {
    // Said by the check of the file.
    return undefined;
  }
}
