/** @module What an archive answers to `get` of other daemons and of the original's controller. */
import { WalbError } from "../errors.ts";
import { baseImage } from "../image/image.ts";
import { applyAll } from "../snapshot/algebra.ts";
import { restorable } from "../snapshot/restore.ts";
import { applicableToGid } from "../snapshot/select.ts";
import { beginState, endState } from "../snapshot/state.ts";
import { diffLineText, gidInfoText, snapshotText, stateTimeText } from "../snapshot/text.ts";
import { timeText } from "../snapshot/time.ts";
import { type DiffMeta, diffMeta, gidMax, plainState, snapshot } from "../snapshot/types.ts";
import { lbBytes } from "../units.ts";
import type { GetKind, GetRequest, GetValueOf } from "../wire/get.ts";
import { parseU64 } from "../wire/grammar.ts";
import { PeerError } from "../wire/words.ts";
import { restoredGids } from "./restored.ts";
import { type ArchiveVolume, type ArchiveVolumeState, activeStates } from "./volume.ts";
import type { ArchiveVolumes } from "./volumes.ts";

/** Actions as the original names and orders them. */
export const namedActions = ["Merge", "Apply", "Restore", "ReplSyncAsClient", "Resize"] as const;

/** States in which a volume has an image, used or not. */
const imageStates: readonly ArchiveVolumeState[] = [...activeStates, "Stopped"];

/** The value of a target. Source: `docs/protocol.md`, get targets. */
export async function archiveValue(volumes: ArchiveVolumes, request: GetRequest): Promise<GetValueOf<GetKind>> {
  const { name, args } = request;
  switch (name) {
    case "vol":
      return [...volumes.all.map((volume) => volume.name), ...volumes.broken.map(({ volume }) => volume)].sort();
    case "latest-snap":
      return latestLines(args[0] === undefined ? volumes.all : [volumes.get(args[0])]);
    case "base-all":
      return baseLines(volumes);
    case "all-actions":
      return volumes.all.filter(({ machine }) => activeStates.includes(machine.state)).map(actionsLine);
    case "volume-group":
      return volumes.imagesPlace.group;
    case "thinpool":
      return volumes.imagesPlace.pool;
    case "ts-delta":
      return volumes.all.flatMap(deltaLines);
    case "exists-base-image": {
      const volume = volumes.find(args[0]!);
      return (
        volume !== undefined && volume.store.base !== undefined && (await volume.images.exists(baseImage(volume.name)))
      );
    }
    case "progress":
      return Math.floor((volumes.find(args[0]!)?.syncProgress?.doneBytes ?? 0) / lbBytes);
    default:
      return volumeValue(request, volumes.get(args[0]!));
  }
}

async function volumeValue({ name, args }: GetRequest, volume: ArchiveVolume): Promise<GetValueOf<GetKind>> {
  const { store, machine } = volume;
  const requireStates = (server: string, states: readonly ArchiveVolumeState[]): void => {
    if (!states.includes(machine.state)) throw new PeerError(`${server}:bad state:${machine.state}`);
  };
  switch (name) {
    case "restorable":
      if (!activeStates.includes(machine.state)) return [];
      machine.requireNotStopping(`get ${name}`);
      return restorable(store.set, volume.requireBase(), args[1] === "all").map(gidInfoText);
    case "base":
      requireStates("getBase", activeStates);
      return stateTimeText(volume.requireBase());
    case "uuid":
      requireStates("getUuid", activeStates);
      return store.logUuid ?? "0".repeat(32);
    case "archive-uuid":
      requireStates("getArchiveUuid", activeStates);
      return store.archiveUuid ?? "0".repeat(32);
    case "vol-size":
      volume.requireBase();
      return store.sizeLb;
    case "diff":
      return diffsIn(volume, args).map(diffLineText);
    case "num-diff":
      return diffsIn(volume, args).length;
    case "total-diff-size":
      return diffsIn(volume, args).reduce((sum, diff) => sum + diff.dataSizeBytes, 0);
    case "applicable-diff":
      return diffsTo(volume, args[1]).map(diffLineText);
    case "exists-diff":
      requireStates("existsDiff", imageStates);
      return hasDiff(volume, args.slice(1));
    case "meta-snap":
      return snapshotText(applyAll(volume.requireBase().from, diffsTo(volume, args[1])));
    case "meta-state":
      return metaState(volume, args[1]!, args[2]);
    case "num-action": {
      const action = namedActions.find((known) => known === args[1]);
      if (action === undefined) throw new PeerError(`getNumAction:no such action:${args[1]}`);
      return machine.running(action);
    }
    case "restored":
    case "cold": {
      requireStates("getSnapshots", imageStates);
      machine.requireNotStopping(`get ${name}`);
      const gids = name === "cold" ? store.colds.all.map(({ gid }) => gid) : await restoredGids(volume);
      return gids.map(String);
    }
    default:
      throw new WalbError("unsupported", { what: `this archive does not answer get ${name}` });
  }
}

function diffsIn(volume: ArchiveVolume, args: readonly string[]): DiffMeta[] {
  const low = args[1] === undefined ? 0n : parseU64(args[1], "gid0");
  const high = args[2] === undefined ? gidMax : parseU64(args[2], "gid1");
  if (low >= high) throw new PeerError(`getDiffs:bad gid range:${low}:${high}`);
  return [...volume.store.set.getAll(low, high)];
}

function diffsTo(volume: ArchiveVolume, gidText: string | undefined): DiffMeta[] {
  const gid = gidText === undefined ? gidMax : parseU64(gidText, "gid");
  return applicableToGid(volume.store.set, volume.requireBase().from, gid);
}

function hasDiff(volume: ArchiveVolume, gids: readonly string[]): boolean {
  const [fromB, fromE, toB, toE] = gids.map((text, index) => parseU64(text, `gid ${index + 1}`));
  const from = snapshot(fromB!, fromE!, "begin");
  return volume.store.set.has(diffMeta({ from, to: snapshot(toB!, toE!, "end") }));
}

/** The state at a gid, or the one while the image is being brought there. */
function metaState(volume: ArchiveVolume, isApplyingText: string, gidText: string | undefined): string {
  const { from, timestampS } = volume.requireBase();
  const base = plainState(from, timestampS);
  const diffs = diffsTo(volume, gidText);
  const isApplying = parseU64(isApplyingText, "isApplying") !== 0n;
  if (!isApplying || diffs.length === 0) return stateTimeText(endState(base, diffs));
  return stateTimeText({ ...beginState(base, diffs), timestampS: endState(base, diffs).timestampS });
}

function latestLines(volumes: readonly ArchiveVolume[]): string[] {
  return volumes.flatMap((volume) => {
    if (!imageStates.includes(volume.machine.state)) return [];
    const { from, timestampS } = volume.latest();
    return [`name:${volume.name}\tkind:archive\tgid:${from.gidB}\ttimestamp:${timeText(timestampS)}`];
  });
}

function baseLines(volumes: ArchiveVolumes): string[] {
  return volumes.all.flatMap((volume) =>
    volume.store.base === undefined ? [] : [`name:${volume.name}\tmetastate:${stateTimeText(volume.store.base)}`],
  );
}

function actionsLine({ name, machine }: ArchiveVolume): string {
  const actions = namedActions.map((action) => {
    const beganS = Math.floor((machine.lastBeganMs(action) ?? 0) / 1000);
    return `${action} ${machine.running(action)} ${timeText(beganS)}`;
  });
  return [name, ...actions].join(" ");
}

/** How far the archives are behind that this process has replicated to. */
function deltaLines(volume: ArchiveVolume): string[] {
  if (!activeStates.includes(volume.machine.state)) return [];
  const { from, timestampS } = volume.latest();
  return volume.replicas.all.flatMap(({ to, node, gid }) => {
    if (gid === undefined) return [];
    const point = volume.points().find((one) => one.point.gid === gid)?.point;
    const thereS = gid === from.gidB ? timestampS : (point?.timestampS ?? 0);
    const here = `name:${volume.name}\tdest:${node ?? to}\tkind:archive\tdest_kind:archive\tgid:${from.gidB}\tts:${timeText(timestampS)}`;
    return [`${here}\tdest_gid:${gid}\tdest_ts:${timeText(thereS)}\tts_delta:${timestampS - thereS}`];
  });
}
