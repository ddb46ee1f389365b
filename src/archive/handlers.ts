/** @module The commands of an archive. */
import type { ArchiveCommands } from "../control/archive.ts";
import type { Handlers } from "../control/command.ts";
import type { DiffIo } from "../diff/types.ts";
import { WalbError } from "../errors.ts";
import type { Platform } from "../platform/platform.ts";
import { lbBytes } from "../units.ts";
import { clearStatus } from "../volume/trouble.ts";
import { volumeLbMax } from "../wire/bulk-stream.ts";
import { applyToBase, type JobContext } from "./apply.ts";
import type { ForegroundLimit } from "./foreground.ts";
import { mergeDiffs } from "./merge.ts";
import { RestoreExperience, restoreVolume } from "./restore.ts";
import type { ArchiveSettings } from "./settings.ts";
import { brokenReport, volumeReport } from "./status.ts";
import { type ArchiveAction, type ArchiveVolume, activeStates } from "./volume.ts";
import type { ArchiveVolumes } from "./volumes.ts";

/** What the handlers work on. */
export interface HandlerParts {
  readonly platform: Platform;
  readonly settings: ArchiveSettings;
  readonly volumes: ArchiveVolumes;
  readonly imagesKind: string;
  readonly io: DiffIo;
  readonly foreground: ForegroundLimit;
}

/** Labels a volume may have. */
const labelsMax = 100_000;

/** Makes the handlers of an archive's commands. */
export function archiveHandlers(parts: HandlerParts): Handlers<ArchiveCommands> {
  const { platform, settings, volumes, io, foreground } = parts;
  const experience = new RestoreExperience();
  const sinceMs = (startMs: number): number => Math.round(platform.clock.monotonicMs() - startMs);

  return {
    async status({ volume }) {
      const known = volumes.all.filter((one) => volume === undefined || one.name === volume);
      const broken = volumes.broken.filter((one) => volume === undefined || one.volume === volume);
      const isUnknown = volume !== undefined && known.length + broken.length === 0;
      return {
        images: parts.imagesKind,
        ...(await platform.disk.freeSpace(settings.dataDir)),
        volumes: [
          ...(await Promise.all(known.map(volumeReport))),
          ...broken.map((one) => brokenReport(one, platform.clock.nowMs())),
          ...(isUnknown ? [clearStatus(volume)] : []),
        ],
      };
    },

    async volumes() {
      return { volumes: volumes.all.map((volume) => volume.name) };
    },

    async init({ volume }) {
      await volumes.create(volume);
      return {};
    },

    async snapshots({ volume: name, all }) {
      const volume = volumes.get(name);
      const { labels, sizeLb } = volume.store;
      return {
        snapshots: volume
          .points()
          .filter(({ point }) => all === true || point.isExplicit || point.isBase || labels.has(point.gid))
          .map(({ point, bytesToRestore }) => {
            const label = labels.get(point.gid);
            return {
              gid: point.gid,
              timeMs: point.timestampS * 1000,
              isExplicit: point.isExplicit,
              isProtected: label?.isProtected ?? false,
              ...(label?.label === undefined ? {} : { label: label.label }),
              bytesToRestore,
              sizeLb,
            };
          }),
      };
    },

    async "label-snapshot"({ volume: name, gid, label, protect }) {
      const volume = volumes.get(name);
      const { store, machine } = volume;
      machine.require(activeStates, "label a snapshot");
      const base = volume.requireBase();
      if (gid < base.from.gidB) {
        throw new WalbError("not-found", {
          what: `snapshot ${gid} is not there any more: the image is at gid ${base.from.gidB}`,
          where: { volume: name, field: "gid" },
          hint: `choose one of: walb snapshots ${name} --all`,
        });
      }
      const before = store.labels.get(gid);
      if (before === undefined && store.labels.size >= labelsMax) {
        throw new WalbError("busy", { what: `the volume has ${labelsMax} labels already`, where: { volume: name } });
      }
      store.setLabel({
        gid,
        label: label === undefined ? before?.label : label === "" ? undefined : label,
        isProtected: protect ?? before?.isProtected ?? false,
      });
      await volume.saveManifest();
      return {};
    },

    async restore({ volume: name, ...request }, context) {
      // Not counted against the limit of foreground work: whoever restores is in a hurry.
      return withAction(volumes.get(name), "Restore", ["Apply", "Resize"], context, (volume, job) =>
        restoreVolume(volume, io, experience, request, job),
      );
    },

    async apply({ volume: name, gid }, context) {
      const startMs = platform.clock.monotonicMs();
      const denied = ["Restore", "ReplSyncAsClient", "Apply", "Merge", "Resize", "Scan"] as const;
      const leave = foreground.enter(name, "apply");
      try {
        const result = await withAction(volumes.get(name), "Apply", denied, context, (volume, job) =>
          applyToBase(volume, io, gid, job),
        );
        return { ...result, elapsedMs: sinceMs(startMs) };
      } finally {
        leave();
      }
    },

    async merge({ volume: name, ...request }, context) {
      const startMs = platform.clock.monotonicMs();
      const leave = foreground.enter(name, "merge");
      try {
        const result = await withAction(
          volumes.get(name),
          "Merge",
          ["Apply", "Merge", "Resize"],
          context,
          (volume, job) => mergeDiffs(volume, io, request, job),
        );
        return { ...result, elapsedMs: sinceMs(startMs) };
      } finally {
        leave();
      }
    },

    async clear({ volume }) {
      await volumes.clear(volumes.get(volume));
      return {};
    },

    async reset({ volume }) {
      await volumes.reset(volumes.get(volume));
      return {};
    },

    async resize({ volume: name, sizeLb }) {
      await resizeVolume(volumes.get(name), sizeLb);
      return {};
    },

    async start({ volume }) {
      await volumes.start(volumes.get(volume));
      return {};
    },

    async stop({ volume, mode }, context) {
      await volumes.stop(volumes.get(volume), mode, context.signal);
      return {};
    },
  };
}

/** Runs an action beside the state of an active volume; a forced stop ends it. */
export async function withAction<T>(
  volume: ArchiveVolume,
  action: ArchiveAction,
  denied: readonly ArchiveAction[],
  context: JobContext,
  work: (volume: ArchiveVolume, context: JobContext) => Promise<T>,
): Promise<T> {
  const { machine } = volume;
  const what = action.toLowerCase();
  machine.require(activeStates, what);
  machine.requireNotStopping(what);
  machine.requireIdle(denied, what);
  const end = machine.beginAction(action);
  const interruptible = volume.interruptible(context.signal);
  try {
    return await work(volume, { signal: interruptible.signal, progress: (report) => context.progress(report) });
  } finally {
    interruptible.done();
    end();
  }
}

/** Grows the image, then the size. An image that is large enough already stays. */
export async function resizeVolume(volume: ArchiveVolume, sizeLb: number): Promise<void> {
  const { machine, store, images, name } = volume;
  machine.require([...activeStates, "Stopped", "SyncReady"], "resize");
  machine.requireNotStopping("resize");
  machine.requireIdle(["Restore", "ReplSyncAsClient", "Apply", "Resize", "Scan"], "resize");
  volume.requireBase();
  if (sizeLb > volumeLbMax) {
    throw new WalbError("out-of-range", {
      what: `a volume of ${sizeLb} LB is beyond the largest, ${volumeLbMax}`,
      where: { volume: name, field: "sizeLb" },
    });
  }
  if (sizeLb < store.sizeLb) {
    throw new WalbError("out-of-range", {
      what: `the volume has ${store.sizeLb} LB and cannot shrink to ${sizeLb}`,
      where: { volume: name, field: "sizeLb" },
      hint: "volumes only grow; reset the volume and back it up again to make it smaller",
    });
  }
  if (sizeLb === store.sizeLb) return;
  const end = machine.beginAction("Resize");
  try {
    const sizeBytes = sizeLb * lbBytes;
    if ((await images.sizeBytes(name)) < sizeBytes) await images.grow(name, sizeBytes);
    store.setSize(sizeLb);
    await volume.saveManifest();
    volume.log.info("resized", { sizeLb });
  } finally {
    end();
  }
}
