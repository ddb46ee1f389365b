/** @module The commands of an archive. */
import type { ArchiveCommands } from "../control/archive.ts";
import type { Handlers } from "../control/command.ts";
import { asWalbError, WalbError } from "../errors.ts";
import { type ImageStore, snapshotImage } from "../image/image.ts";
import type { Platform } from "../platform/platform.ts";
import { applicableList } from "../snapshot/select.ts";
import { snapshotText } from "../snapshot/text.ts";
import type { SpaceReserve } from "../volume/reserve.ts";
import { clearStatus } from "../volume/trouble.ts";
import { withAction } from "./action.ts";
import { applyToBase } from "./apply.ts";
import { changesBetween } from "./changes.ts";
import { setBase, setLogUuid, setState } from "./debug.ts";
import { setExplicit } from "./flags.ts";
import type { ForegroundLimit } from "./foreground.ts";
import { collectGarbage } from "./garbage.ts";
import { hashVolume } from "./hash-volume.ts";
import type { ArchiveMemory } from "./memory.ts";
import { mergeDiffs } from "./merge.ts";
import type { RateLimits } from "./rates.ts";
import { type ReplicateParts, replicateVolume } from "./replication/replicate.ts";
import { resizeVolume } from "./resize.ts";
import { RestoreExperience, restoreVolume } from "./restore.ts";
import { deleteCold, deleteRestored, listRestored } from "./restored.ts";
import type { ResumedApplies } from "./resume.ts";
import type { ArchiveSettings } from "./settings.ts";
import { startVolume, stopVolume } from "./start-stop.ts";
import { answeredInTime, brokenReport, volumeReport } from "./status.ts";
import { verifyVolume } from "./verify.ts";
import { activeStates } from "./volume.ts";
import type { ArchiveVolumes } from "./volumes.ts";

/** What the handlers work on. */
export interface HandlerParts {
  readonly platform: Platform;
  readonly settings: ArchiveSettings;
  readonly volumes: ArchiveVolumes;
  readonly images: ImageStore;
  readonly memory: ArchiveMemory;
  readonly rates: RateLimits;
  readonly reserve: SpaceReserve;
  readonly foreground: ForegroundLimit;
  readonly replicating: ReplicateParts;
  readonly resumed: ResumedApplies;
}

/** Labels a volume may have. */
const labelsMax = 100_000;

/** Makes the handlers of an archive's commands. */
export function archiveHandlers(parts: HandlerParts): Handlers<ArchiveCommands> {
  const { platform, settings, volumes, memory, rates, reserve, foreground, resumed } = parts;
  const io = memory.working;
  const experience = new RestoreExperience();
  const sinceMs = (startMs: number): number => Math.round(platform.clock.monotonicMs() - startMs);

  return {
    async status({ volume }) {
      const known = volumes.all.filter((one) => volume === undefined || one.name === volume);
      const broken = volumes.broken.filter((one) => volume === undefined || one.volume === volume);
      const isUnknown = volume !== undefined && known.length + broken.length === 0;
      const [freeSpace, freeOfImages, reports] = await Promise.all([
        platform.disk.freeSpace(settings.dataDir),
        imageSpace(platform, parts.images),
        Promise.all(known.map(volumeReport)),
      ]);
      return {
        images: parts.images.kind,
        ...freeSpace,
        ...freeOfImages,
        rates: rates.rates,
        volumes: [
          ...reports,
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

    async diffs({ volume: name }) {
      const volume = volumes.get(name);
      volume.machine.require(activeStates, "list the diffs");
      const base = volume.requireBase();
      return {
        base: { gid: base.from.gidB, ...(base.to === undefined ? {} : { applyingGid: base.to.gidB }) },
        diffs: applicableList(volume.store.set, base.from).map((diff) => ({
          from: snapshotText(diff.from),
          to: snapshotText(diff.to),
          isMergeable: diff.isMergeable,
          isCompared: diff.isCompared,
          timeMs: diff.timestampS * 1000,
          sizeBytes: diff.dataSizeBytes,
        })),
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
          hint: `choose one of: walb snapshots ${volume.at} --all`,
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

    async "disable-snapshot"({ volume, gids }) {
      await setExplicit(volumes.get(volume), gids, false);
      return {};
    },

    async "enable-snapshot"({ volume, gids }) {
      await setExplicit(volumes.get(volume), gids, true);
      return {};
    },

    async restore({ volume: name, ...request }, context) {
      // Not counted against the limit of foreground work: whoever restores is in a hurry.
      const back = await resumed.giveWay(name);
      try {
        return await withAction(volumes.get(name), "Restore", ["Apply", "Resize"], context, (volume, job) =>
          restoreVolume(volume, memory, experience, request, job),
        );
      } finally {
        back();
      }
    },

    async restored({ volume }) {
      const restored = await listRestored(volumes.get(volume));
      return {
        restored: restored.map(({ timestampS, ...image }) => ({
          ...image,
          ...(timestampS === undefined ? {} : { timeMs: timestampS * 1000 }),
        })),
      };
    },

    async "del-restored"({ volume, gid }) {
      await reserve.forFreeing(() => deleteRestored(volumes.get(volume), gid));
      return {};
    },

    async cold({ volume: name }) {
      const { store, images } = volumes.get(name);
      return {
        cold: store.colds.all.map(({ gid, timestampS }) => ({
          gid,
          timeMs: timestampS * 1000,
          path: images.pathOf(snapshotImage(name, "cold", gid)),
        })),
      };
    },

    async "del-cold"({ volume, gid }) {
      await reserve.forFreeing(() => deleteCold(volumes.get(volume), gid));
      return {};
    },

    async apply({ volume: name, gid, dryRun }, context) {
      const startMs = platform.clock.monotonicMs();
      const denied = ["Restore", "ReplSyncAsClient", "Apply", "Merge", "Resize", "Scan"] as const;
      const leave = resumed.isResuming(name) ? undefined : foreground.enter(name, "apply");
      let isBegun = false;
      const accepted = (): void => {
        isBegun = true;
        context.accepted?.();
      };
      try {
        const result = await reserve.forFreeing(() =>
          withAction(volumes.get(name), "Apply", denied, { ...context, accepted }, (volume, job) =>
            applyToBase(volume, io, gid, job, dryRun),
          ),
        );
        return { ...result, elapsedMs: sinceMs(startMs) };
      } catch (error) {
        if (isBegun && leave !== undefined) resumed.failed(volumes.get(name), gid, asWalbError(error));
        throw error;
      } finally {
        leave?.();
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

    async replicate({ volume: name, ...request }, context) {
      return replicateVolume(volumes.get(name), parts.replicating, request, context);
    },

    async clear({ volume }) {
      await reserve.forFreeing(() => volumes.clear(volumes.get(volume)));
      return {};
    },

    async reset({ volume }) {
      await reserve.forFreeing(() => volumes.reset(volumes.get(volume)));
      return {};
    },

    async bhash({ volume: name, ...request }, context) {
      const startMs = platform.clock.monotonicMs();
      const found = await withAction(volumes.get(name), "Scan", ["Apply", "Resize"], context, (volume, job) =>
        hashVolume(volume, memory, request, job),
      );
      return { ...found, elapsedMs: sinceMs(startMs) };
    },

    async changes({ volume: name, rangesMax = 1_000, ...gids }, context) {
      return withAction(volumes.get(name), "Scan", ["Apply", "Resize"], context, (volume, { signal }) =>
        changesBetween(volume, io, { ...gids, rangesMax }, signal),
      );
    },

    async verify({ volume: name, ...request }, context) {
      const startMs = platform.clock.monotonicMs();
      const found = await withAction(volumes.get(name), "Scan", ["Apply", "Resize"], context, (volume, job) =>
        verifyVolume(volume, memory, request, job),
      );
      return { ...found, elapsedMs: sinceMs(startMs) };
    },

    async "gc-diff"({ volume }) {
      return reserve.forFreeing(() => collectGarbage(volumes.get(volume)));
    },

    async "set-rates"(wanted) {
      rates.set(wanted);
      return rates.rates;
    },

    async resize({ volume: name, sizeLb }) {
      await resizeVolume(volumes.get(name), sizeLb);
      return {};
    },

    async start({ volume }) {
      await startVolume(volumes.get(volume));
      resumed.goOn(volumes.get(volume));
      return {};
    },

    async stop({ volume, mode }, context) {
      // What is stopped may be reset.
      await reserve.forFreeing(() => stopVolume(volumes.get(volume), mode, context.signal));
      resumed.end(volume);
      return {};
    },

    async "dbg-reload-metadata"({ volume }) {
      await volumes.reload(volume);
      resumed.goOn(volumes.get(volume));
      return {};
    },

    async "dbg-set-uuid"({ volume, uuid }) {
      await setLogUuid(volumes.get(volume), uuid);
      return {};
    },

    async "dbg-set-state"({ volume, state }) {
      await setState(volumes.get(volume), state);
      resumed.goOn(volumes.get(volume));
      return {};
    },

    async "dbg-set-base"({ volume, base }) {
      await setBase(volumes.get(volume), base);
      return {};
    },
  };
}

/** Room for images where they are not in the data directory; nothing where it cannot be told now: the volumes say why. */
async function imageSpace(
  { clock }: Platform,
  images: ImageStore,
): Promise<{ imagesFreeBytes?: number; imagesTotalBytes?: number }> {
  if (images.space === undefined) return {};
  const space = await answeredInTime(clock, images.space()).catch(() => undefined);
  return space === undefined ? {} : { imagesFreeBytes: space.freeBytes, imagesTotalBytes: space.totalBytes };
}
