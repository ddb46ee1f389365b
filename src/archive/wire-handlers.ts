/** @module What an archive answers over the wire protocol: backups, diffs, scans, questions. */
import { type LegacyParts, legacyHandlers } from "../control/legacy/serve.ts";
import { asWalbError, WalbError } from "../errors.ts";
import type { Platform } from "../platform/platform.ts";
import { gidMax } from "../snapshot/types.ts";
import { lbBytes } from "../units.ts";
import { checkVolumeId } from "../volume/directories.ts";
import { readParameters } from "../wire/commands.ts";
import { type BackupRequest, serveFullSync } from "../wire/full-sync.ts";
import { defaultBulkLb, parseBulkLb, parseDeviceLb, parseU64 } from "../wire/grammar.ts";
import { serveHashSync } from "../wire/hash-sync.ts";
import { labelsProtocol } from "../wire/labels.ts";
import { serveLatestSnap } from "../wire/latest-snap.ts";
import { logsProtocol } from "../wire/logs.ts";
import { serveBhash, serveVirtualScan } from "../wire/scan.ts";
import type { WireHandler } from "../wire/server.ts";
import type { WireStream } from "../wire/stream.ts";
import { serveWdiffTransfer, type WdiffRequest } from "../wire/wdiff-transfer.ts";
import { accept, type Decision, ProtocolName, refuseWith } from "../wire/words.ts";
import { allActions, withAction } from "./action.ts";
import { ForegroundLimit } from "./foreground.ts";
import { FullSync } from "./full-sync.ts";
import { HashSync } from "./hash-sync.ts";
import type { ArchiveMemory } from "./memory.ts";
import { decideDiff } from "./plan.ts";
import { DiffReception } from "./receive.ts";
import { untilNoDiff } from "./reception.ts";
import { refuseTransfer, transferGuards } from "./refusals.ts";
import { serveReplicaLabels } from "./replication/labels.ts";
import { serveReplicaLogs } from "./replication/lineage.ts";
import { serveReplication } from "./replication/serve.ts";
import { resizeVolume } from "./resize.ts";
import type { ResumedApplies } from "./resume.ts";
import { SnapshotImage } from "./scan.ts";
import type { ArchiveSettings } from "./settings.ts";
import { type ArchiveVolume, activeStates } from "./volume.ts";
import { directoryFault } from "./volume-directory.ts";
import type { ArchiveVolumes } from "./volumes.ts";

/** What the handlers work on. */
export interface WireParts {
  readonly platform: Platform;
  /** For the commands of the original's controller. */
  readonly legacy: LegacyParts;
  readonly settings: ArchiveSettings;
  readonly volumes: ArchiveVolumes;
  readonly memory: ArchiveMemory;
  readonly foreground: ForegroundLimit;
  readonly resumed: ResumedApplies;
}

/** Diffs received at once. They have a limit of their own: a long backup must not keep all diffs waiting. */
const receptionsMax = 8;

/** Handlers by protocol or command name. */
export function archiveWireHandlers(parts: WireParts): ReadonlyMap<string, WireHandler> {
  const { settings } = parts;
  const receptions = new ForegroundLimit(settings.nodeId, Math.max(receptionsMax, settings.maxForegroundTasks));
  return new Map<string, WireHandler>([
    [ProtocolName.fullSync, (stream) => receiveFullSync(parts, stream)],
    [ProtocolName.hashSync, (stream) => receiveHashSync(parts, stream)],
    [labelsProtocol, (stream) => serveReplicaLabels(parts.volumes, stream)],
    [logsProtocol, (stream) => serveReplicaLogs(parts.volumes, stream)],
    [ProtocolName.replSync, (stream) => serveReplication(parts, stream)],
    [ProtocolName.wdiffTransfer, (stream) => receiveDiff(parts, receptions, stream)],
    ["virt-full-scan", (stream) => scanVolume(parts, stream, "virt-full-scan")],
    ["bhash", (stream) => scanVolume(parts, stream, "bhash")],
    [
      ProtocolName.gatherLatestSnap,
      (stream) => serveLatestSnap(stream, async (names) => names.map((name) => latest(parts, name))),
    ],
    ...legacyHandlers(parts.legacy),
  ]);
}

async function receiveFullSync(parts: WireParts, stream: WireStream): Promise<void> {
  const cleanups: (() => void | Promise<void>)[] = [];
  let volume: ArchiveVolume | undefined;
  let sync: FullSync | undefined;
  let logUuid = "";
  try {
    await serveFullSync(stream, parts.memory.bulks, {
      async decide(request) {
        try {
          volume = beginFullSync(parts, stream, request, cleanups);
          sync = await FullSync.begin(volume, request);
          cleanups.unshift(() => sync!.close());
          return accept;
        } catch (error) {
          return refuseTransfer(parts.volumes, transferGuards.fullSync, request.volume, error);
        }
      },
      async begin(uuid) {
        logUuid = uuid;
        return sync!;
      },
      async commit(snapshot) {
        await sync!.commit(snapshot, logUuid);
        volume!.clearTrouble();
        volume!.log.info("full backup received", { gid: snapshot.gidE });
        for (const cleanup of cleanups.splice(0)) await cleanup();
      },
    });
  } catch (error) {
    const failure = asWalbError(error, { step: "receiving a full backup" });
    volume?.setTrouble(failure);
    volume?.log.warn("a full backup was not received completely", { error: failure });
    throw failure;
  } finally {
    for (const cleanup of cleanups) await cleanup();
  }
}

async function receiveHashSync(parts: WireParts, stream: WireStream): Promise<void> {
  const cleanups: (() => void | Promise<void>)[] = [];
  const abort = new AbortController();
  const { packs: pool, receiving } = parts.memory;
  let volume: ArchiveVolume | undefined;
  let sync: HashSync | undefined;
  try {
    await serveHashSync(
      stream,
      { pool, compute: receiving.compute },
      {
        async decide(request) {
          try {
            volume = await beginHashSync(parts, stream, request, abort, cleanups);
            sync = await HashSync.begin(volume, parts.memory, request, abort.signal);
            cleanups.unshift(() => sync!.close());
            return { kind: "accept", latest: sync.told };
          } catch (error) {
            return refuseTransfer(parts.volumes, transferGuards.hashSync, request.volume, error);
          }
        },
        async begin(uuid) {
          await sync!.open(uuid);
          return { hashes: sync!.hashes(abort.signal), sink: sync! };
        },
        async commit(snapshot) {
          await sync!.commit(snapshot);
          volume!.clearTrouble();
          volume!.log.info("hash backup received", { gid: snapshot.gidE });
          for (const cleanup of cleanups.splice(0)) await cleanup();
        },
      },
    );
  } catch (error) {
    const failure = asWalbError(error, { step: "receiving a hash backup" });
    volume?.setTrouble(failure);
    volume?.log.warn("a hash backup was not received completely; the volume is as before", { error: failure });
    throw failure;
  } finally {
    abort.abort();
    for (const cleanup of cleanups) await cleanup();
  }
}

/** Checks, and enters HashSync; what is pushed to `cleanups` leaves it again. */
async function beginHashSync(
  parts: WireParts,
  stream: WireStream,
  request: BackupRequest,
  abort: AbortController,
  cleanups: (() => void | Promise<void>)[],
): Promise<ArchiveVolume> {
  const what = "receive a hash backup";
  requireStorage(request, "hash");
  const volume = parts.volumes.get(request.volume);
  cleanups.push(parts.foreground.enter(request.volume, what));
  const { machine } = volume;
  await untilNoDiff(parts.platform.clock, machine);
  machine.requireNotStopping(what);
  machine.requireIdle(["Apply", "Resize"], what);
  const transition = machine.begin(["Archived"], "HashSync", what);
  cleanups.push(() => transition.commit("Archived"));
  if (volume.sizeBytes < request.sizeLb * lbBytes) {
    if (!parts.settings.isAutoResize) throw tooSmall(volume, request.sizeLb);
    await resizeVolume(volume, request.sizeLb);
  }
  // The image is read all the time: no apply may change it, no resize replace it.
  cleanups.push(machine.beginAction("Scan"));
  const interrupt = (error: WalbError): void => {
    abort.abort(error);
    stream.close(error);
  };
  cleanups.push(volume.onInterrupt(interrupt));
  return volume;
}

function requireStorage(request: BackupRequest, kind: "full" | "hash"): void {
  if (request.hostType === "storage") return;
  throw new WalbError("bad-parameter", {
    what: `a ${kind} backup comes from a storage, not from ${JSON.stringify(request.hostType)}`,
    where: { field: "hostType" },
  });
}

function tooSmall(volume: ArchiveVolume, sizeLb: number): WalbError {
  return new WalbError("out-of-range", {
    what: `the image has ${volume.store.sizeLb} LB, but the volume ${sizeLb}`,
    hint: `grow it: walb resize ${volume.name} ${sizeLb * lbBytes}, or start the archive with --auto-resize`,
  });
}

/** Checks, and enters FullSync; what is pushed to `cleanups` leaves it again, to the state the row has then. */
function beginFullSync(
  parts: WireParts,
  stream: WireStream,
  request: BackupRequest,
  cleanups: (() => void | Promise<void>)[],
): ArchiveVolume {
  requireStorage(request, "full");
  const volume = parts.volumes.get(request.volume);
  cleanups.push(parts.foreground.enter(request.volume, "receive a full backup"));
  const { machine, store } = volume;
  machine.requireNotStopping("receive a full backup");
  machine.requireIdle(allActions, "receive a full backup");
  const transition = machine.begin(["SyncReady"], "FullSync", "receive a full backup");
  cleanups.push(() => (store.state === "Archived" ? transition.commit("Archived") : transition.rollback()));
  cleanups.push(volume.onInterrupt((error) => stream.close(error)));
  return volume;
}

async function receiveDiff(parts: WireParts, receptions: ForegroundLimit, stream: WireStream): Promise<void> {
  const cleanups: (() => void)[] = [];
  let volume: ArchiveVolume | undefined;
  let reception: DiffReception | undefined;
  const { packs: pool, receiving: io } = parts.memory;
  try {
    await serveWdiffTransfer(
      stream,
      { pool, compute: io.compute },
      {
        async decide(request) {
          try {
            cleanups.push(receptions.enter(request.volume, "receive a diff"));
            const entered = enterReception(parts, request, cleanups);
            if ("kind" in entered) return entered;
            volume = entered;
            const decision = await decideReception(parts, volume, request);
            if (decision.kind !== "accept") return decision;
            cleanups.push(volume.onInterrupt((error) => stream.close(error)));
            // Made here, so that a lack of space is told as the answer.
            reception = await DiffReception.begin(volume, request, io);
            return accept;
          } catch (error) {
            const failure = asWalbError(error);
            if (failure.code === "no-space" || failure.code === "io") volume?.setTrouble(failure);
            return refuseTransfer(parts.volumes, transferGuards.diff, request.volume, failure);
          }
        },
        async begin() {
          const sink = reception!;
          return {
            write: (pack) => sink.write(pack),
            abandon: (error) => sink.abandon(error),
            async finish() {
              await sink.finish();
              volume!.clearTrouble();
              for (const cleanup of cleanups.splice(0)) cleanup();
            },
          };
        },
      },
    );
  } finally {
    for (const cleanup of cleanups) cleanup();
  }
}

/** Conditions 1 to 6 of the decision order; enters WdiffRecv. */
function enterReception(parts: WireParts, request: WdiffRequest, cleanups: (() => void)[]): ArchiveVolume | Decision {
  if (request.hostType !== "proxy" && request.hostType !== "archive") {
    throw new WalbError("bad-parameter", {
      what: `a diff comes from a proxy or an archive, not from ${JSON.stringify(request.hostType)}`,
      where: { field: "hostType" },
    });
  }
  const volume = parts.volumes.get(request.volume);
  const { machine } = volume;
  machine.requireNotStopping("receive a diff");
  switch (machine.state) {
    case "Stopped":
    case "Start":
      return refuseWith("stopped");
    case "FullSync":
    case "HashSync":
      return refuseWith("syncing");
    case "WdiffRecv":
      return refuseWith("wdiff-recv");
    default: {
      const transition = machine.begin(["Archived"], "WdiffRecv", "receive a diff");
      cleanups.push(() => transition.commit("Archived"));
      return volume;
    }
  }
}

/** Conditions 7 to 12. */
async function decideReception(parts: WireParts, volume: ArchiveVolume, request: WdiffRequest): Promise<Decision> {
  if ((await directoryFault(volume)) !== undefined) return refuseWith("archive-not-found");
  const situation = () => ({
    logUuid: volume.store.logUuid,
    imageBytes: volume.sizeBytes,
    neededBytes: request.sizeLb * lbBytes,
    latest: volume.latest().from,
  });
  const decision = decideDiff(request, situation());
  const isTooSmall = decision.kind === "word" && decision.word === "smaller-lv-size";
  if (!isTooSmall) return decision;
  if (!parts.settings.isAutoResize) {
    volume.setTrouble(tooSmall(volume, request.sizeLb));
    return decision;
  }
  await resizeVolume(volume, request.sizeLb);
  return decideDiff(request, situation());
}

async function scanVolume(parts: WireParts, stream: WireStream, command: "virt-full-scan" | "bhash"): Promise<void> {
  const [name, gidText, bulkText, sizeText] = await readParameters(stream, { minCount: 2 });
  const volume = parts.volumes.get(checkVolumeId(name!));
  const bulkLb = bulkText === undefined ? defaultBulkLb : parseBulkLb(bulkText);
  const askedLb = sizeText === undefined ? 0 : parseDeviceLb(sizeText);
  const sizeLb = askedLb === 0 ? volume.store.sizeLb : askedLb;
  const range = { gid: parseU64(gidText!, "gid"), sizeLb, bulkLb };
  const abort = new AbortController();
  const context = { signal: abort.signal, progress: () => undefined };
  const leave = command === "bhash" ? undefined : parts.foreground.enter(volume.name, "scan");
  let back: (() => void) | undefined;
  try {
    if (command !== "bhash") back = await parts.resumed.giveWay(volume.name);
    await withAction(volume, "Scan", ["Apply", "Resize"], context, async (_volume, { signal }) => {
      const image = await SnapshotImage.open(volume, parts.memory, range, signal);
      try {
        const until = (gone: AbortSignal): AbortSignal => AbortSignal.any([signal, gone]);
        if (command === "bhash") await serveBhash(stream, (gone) => image.hash(until(gone)));
        else await serveVirtualScan(stream, sizeLb, bulkLb, (gone) => image.bulks(until(gone)));
      } finally {
        await image.close();
      }
    });
  } finally {
    back?.();
    leave?.();
  }
}

/** A volume's newest snapshot for a storage; unknown ones have no gid. */
function latest({ volumes }: WireParts, name: string) {
  const volume = volumes.find(name);
  const isKnown = volume !== undefined && activeStates.includes(volume.machine.state);
  if (!isKnown) return { volume: name, gid: gidMax, timestampS: 0, lsid: undefined };
  const { from, timestampS } = volume.latest();
  return { volume: name, gid: from.gidB, timestampS, lsid: undefined };
}
