/** @module What an archive answers to `get` of other daemons and of the original's controller. */
import { WalbError } from "../errors.ts";
import { baseImage } from "../image/image.ts";
import { applyAll } from "../snapshot/algebra.ts";
import { restorable } from "../snapshot/restore.ts";
import { applicableToGid } from "../snapshot/select.ts";
import { beginState, endState } from "../snapshot/state.ts";
import { diffLineText, gidInfoText, snapshotText, stateTimeText } from "../snapshot/text.ts";
import { timeText } from "../snapshot/time.ts";
import { diffMeta, gidMax, plainState, snapshot } from "../snapshot/types.ts";
import { checkVolumeId } from "../volume/directories.ts";
import { type GetRequest, readGet, replyGet } from "../wire/get.ts";
import { parseU64 } from "../wire/grammar.ts";
import type { WireStream } from "../wire/stream.ts";
import { restoredGids } from "./restored.ts";
import { type ArchiveVolume, type ArchiveVolumeState, activeStates } from "./volume.ts";
import type { ArchiveVolumes } from "./volumes.ts";

/** In the original's order. */
const toldActions = ["Merge", "Apply", "Restore", "ReplSyncAsClient", "Resize"] as const;

/** Answers one request. Source of the values: `docs/wire-protocol.md`, get targets. */
export async function serveGet(stream: WireStream, volumes: ArchiveVolumes): Promise<void> {
  const request = await readGet(stream, "archive");
  const { name, args } = request;
  switch (name) {
    case "host-type":
      return replyGet(stream, name, "archive");
    case "vol":
      return replyGet(
        stream,
        name,
        volumes.all.map((volume) => volume.name),
      );
    case "state":
      return replyGet(stream, name, stateOf(volumes, args[0]!));
    case "latest-snap":
      return replyGet(stream, name, latestLines(volumes, args[0]));
    case "base-all":
      return replyGet(stream, name, baseLines(volumes));
    case "all-actions":
      return replyGet(stream, name, actionLines(volumes));
    case "volume-group":
      return replyGet(stream, name, volumes.imagesPlace.group);
    case "thinpool":
      return replyGet(stream, name, volumes.imagesPlace.pool);
    default:
      return volumeGet(stream, request, volumes.get(args[0]!));
  }
}

async function volumeGet(stream: WireStream, { name, args }: GetRequest, volume: ArchiveVolume): Promise<void> {
  const { store, machine } = volume;
  const requireActive = (more: readonly ArchiveVolumeState[] = []): void =>
    machine.require([...activeStates, ...more], `get ${name}`);
  switch (name) {
    case "restorable": {
      if (!activeStates.includes(machine.state)) return replyGet(stream, name, []);
      machine.requireNotStopping(`get ${name}`);
      return replyGet(stream, name, restorable(store.set, volume.requireBase(), args[1] === "all").map(gidInfoText));
    }
    case "base":
      requireActive();
      return replyGet(stream, name, stateTimeText(volume.requireBase()));
    case "uuid":
      requireActive();
      return replyGet(stream, name, store.logUuid ?? "");
    case "archive-uuid":
      requireActive();
      return replyGet(stream, name, store.archiveUuid ?? "");
    case "vol-size":
      volume.requireBase();
      return replyGet(stream, name, store.sizeLb);
    case "progress":
      return replyGet(stream, name, Math.floor((volume.syncProgress?.doneBytes ?? 0) / 512));
    case "exists-base-image":
      return replyGet(stream, name, await volume.images.exists(baseImage(volume.name)));
    case "diff":
      return replyGet(stream, name, diffsIn(volume, args).map(diffLineText));
    case "num-diff":
      return replyGet(stream, name, diffsIn(volume, args).length);
    case "total-diff-size":
      return replyGet(
        stream,
        name,
        diffsIn(volume, args).reduce((sum, diff) => sum + diff.dataSizeBytes, 0),
      );
    case "applicable-diff": {
      const gid = args[1] === undefined ? gidMax : parseU64(args[1], "gid");
      return replyGet(stream, name, applicableToGid(store.set, volume.requireBase().from, gid).map(diffLineText));
    }
    case "meta-snap": {
      const gid = args[1] === undefined ? gidMax : parseU64(args[1], "gid");
      const { from } = volume.requireBase();
      return replyGet(stream, name, snapshotText(applyAll(from, applicableToGid(store.set, from, gid))));
    }
    case "num-action": {
      const action = toldActions.find((known) => known === args[1]);
      if (action === undefined) {
        throw new WalbError("bad-parameter", { what: `there is no action ${JSON.stringify(args[1])}` });
      }
      return replyGet(stream, name, machine.running(action));
    }
    case "restored":
    case "cold": {
      requireActive(["Stopped"]);
      machine.requireNotStopping(`get ${name}`);
      const gids = name === "cold" ? store.colds.all.map(({ gid }) => gid) : await restoredGids(volume);
      return replyGet(
        stream,
        name,
        gids.map((gid) => gid.toString()),
      );
    }
    case "exists-diff": {
      requireActive(["Stopped"]);
      const [, fromB, fromE, toB, toE] = args;
      const from = snapshot(parseU64(fromB!, "begin.gidB"), parseU64(fromE!, "begin.gidE"), "begin");
      const to = snapshot(parseU64(toB!, "end.gidB"), parseU64(toE!, "end.gidE"), "end");
      return replyGet(stream, name, store.set.has(diffMeta({ from, to })));
    }
    case "meta-state": {
      const isApplying = parseU64(args[1]!, "isApplying") !== 0n;
      const gid = args[2] === undefined ? gidMax : parseU64(args[2], "gid");
      const base = volume.requireBase();
      const start = plainState(base.from, base.timestampS);
      const diffs = applicableToGid(store.set, base.from, gid);
      return replyGet(stream, name, stateTimeText((isApplying ? beginState : endState)(start, diffs)));
    }
    default:
      throw new WalbError("unsupported", { what: `this archive does not answer get ${name}` });
  }
}

function diffsIn(volume: ArchiveVolume, args: readonly string[]) {
  const low = args[1] === undefined ? 0n : parseU64(args[1], "gid0");
  const high = args[2] === undefined ? gidMax : parseU64(args[2], "gid1");
  return volume.store.set.getAll(low, high);
}

/** `vol Merge n t Apply n t …`, t the time it last began. */
function actionLines(volumes: ArchiveVolumes): string[] {
  return volumes.all.flatMap(({ name, machine }) => {
    if (!activeStates.includes(machine.state)) return [];
    const parts = toldActions.map((action) => {
      const beganMs = machine.lastBeganMs(action);
      return `${action} ${machine.running(action)} ${beganMs === undefined ? "---" : timeText(Math.floor(beganMs / 1000))}`;
    });
    return [`${name} ${parts.join(" ")}`];
  });
}

function stateOf(volumes: ArchiveVolumes, name: string): string {
  checkVolumeId(name);
  return volumes.find(name)?.machine.state ?? "Clear";
}

function latestLines(volumes: ArchiveVolumes, name: string | undefined): string[] {
  const some = name === undefined ? volumes.all : [volumes.get(name)];
  const states: readonly ArchiveVolumeState[] = [...activeStates, "Stopped"];
  return some.flatMap((volume) => {
    if (!states.includes(volume.machine.state)) return [];
    const { from, timestampS } = volume.latest();
    return [`name:${volume.name}\tkind:archive\tgid:${from.gidB}\ttimestamp:${timeText(timestampS)}`];
  });
}

function baseLines(volumes: ArchiveVolumes): string[] {
  return volumes.all.flatMap((volume) =>
    volume.store.base === undefined ? [] : [`name:${volume.name}\tmetastate:${stateTimeText(volume.store.base)}`],
  );
}
