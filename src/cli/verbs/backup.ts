/** @module `walb backup VOL`: full or hash backup, then continuous. */
import type { z } from "zod";
import type { troubleSchema } from "../../control/schemas.ts";
import { asWalbError, type ErrorCode, errorCodes, WalbError } from "../../errors.ts";
import type { Fleet, FleetServer } from "../../fleet/fleet.ts";
import { collectView } from "../../fleet/procedures/collect.ts";
import { type BackupMode, planAfterBackup, planGoOn, planPrepareBackup } from "../../fleet/procedures/plan-storages.ts";
import { type Step, stepText } from "../../fleet/procedures/step.ts";
import { callOptions, clientFlags, loadFleet, print, remark } from "../common.ts";
import { asVolume, toggle } from "../flags.ts";
import { runJob } from "../job.ts";
import { askOptions, doStep } from "../procedure.ts";
import { archiveClient, archivesOf, serverFor, storageClient } from "../servers.ts";
import { formatSize } from "../text/size.ts";
import { formatDuration } from "../text/time.ts";
import { defineVerb } from "../verb.ts";
import { waitRestorable } from "../wait.ts";

/** What kind of backup, and why. */
interface Choice {
  readonly mode: BackupMode;
  readonly why: string;
  /** The storage ships what no archive can take: that is given up for the backup. */
  readonly forced?: BackupMode;
}

type Trouble = z.output<typeof troubleSchema>;

const askTimeoutMs = 5_000;
/** What a storage sees when the archive gives up after it has accepted: there is no reason on the wire then. */
const connectionCodes: readonly ErrorCode[] = ["unreachable", "protocol", "timed-out", "io"];

/** Gives a failure of the connection the cause that the archive tells, when it was not there before the backup. */
function withArchiveCause(error: WalbError, archive: string, before: Trouble | undefined, after: Trouble | undefined) {
  const isNew = after !== undefined && (before === undefined || after.atMs !== before.atMs);
  if (!isNew || !connectionCodes.includes(error.code)) return error;
  const hint = after.hint ?? error.hint;
  const code = Object.keys(errorCodes).find((known): known is ErrorCode => known === after.code);
  return new WalbError(code ?? error.code, {
    what: error.what,
    where: error.where,
    cause: `archive ${archive} says: ${after.message}`,
    ...(hint === undefined ? {} : { hint }),
  });
}

/** States of an archive with an image; diffs that come in go before the backup. */
const imageStates: readonly string[] = ["Archived", "WdiffRecv", "ReplSyncAsServer"];

/** A full backup is never chosen for want of an answer: it begins from scratch. @throws WalbError `state`. */
function chooseByImage(volume: string, archive: string, state: string, trouble: string | undefined): Choice {
  if (imageStates.includes(state)) return { mode: "hash", why: "the archive has an image to compare with" };
  if (state === "SyncReady" || state === "Clear") {
    return { mode: "full", why: `the archive has no image yet (state ${state})` };
  }
  const isReceiving = state === "FullSync" || state === "HashSync";
  throw new WalbError("state", {
    what: isReceiving
      ? `the archive is receiving a backup of the volume already (state ${state})`
      : `the archive takes no backup in state ${state}${trouble === undefined ? "" : `: ${trouble}`}`,
    where: { host: archive, volume },
    hint:
      state === "Stopped"
        ? `start it there: walb start ${volume} --server ${archive}`
        : `look with: walb status ${volume}`,
  });
}

/** The fleet with a server that only --server names. */
function fleetWith(fleet: Fleet, server: FleetServer): Fleet {
  if (fleet.servers.some(({ name }) => name === server.name)) return fleet;
  return { ...fleet, servers: [...fleet.servers, server] };
}

export const verb = defineVerb({
  summary: "Backs a volume up as a whole, and from then on continuously",
  description:
    "Without --full or --hash it does what is needed: hash when the archive has an image already, else full; " +
    "it says which and why. Before, it makes ready what is needed: a standby or a log that has overflowed is reset, the " +
    "archive gets a place, the proxies are told to feed it. With --hash a volume that is backed up already is backed up " +
    "anew, and so with --full after its backups were deleted. Afterwards archives that proxies feed, too, are brought along. Ctrl-C cancels; with --timeout the backup goes on when the time is over.",
  positionals: [{ name: "VOL", help: "name of the volume", isRequired: true }],
  flags: {
    full: toggle("send every block"),
    hash: toggle("compare with what the archive has, send what differs"),
    wait: toggle("wait until the volume can be restored from it"),
    ...clientFlags,
  },
  examples: ["walb backup vol0", "walb backup vol0 --hash --wait --timeout 8h"],
  async run({ flags, args, io }) {
    const volume = asVolume(args[0]!);
    if (flags.full && flags.hash) throw new WalbError("usage", { what: "--full and --hash exclude each other" });
    const fleet = loadFleet(flags, io);
    const at = await serverFor(flags, io, "storage", volume);
    const storage = storageClient(at);
    const archive = archiveClient(archivesOf(fleet, volume)[0]!);
    const asked = flags.full ? "full" : flags.hash ? "hash" : undefined;
    const begun = asked === undefined ? await goOn() : [];
    if (begun.length > 0) {
      print(flags, io, { volume, isGoneOnWith: true }, `the backup of ${volume} that was begun before is done\n`);
      return 0;
    }
    const chosen: Choice = asked === undefined ? await chooseMode() : { mode: asked, why: "as asked" };
    remark(flags, io, `${chosen.mode} backup of ${volume}: ${chosen.why}`);
    const view = await collectView(fleetWith(fleet, at), volume, askOptions(flags, io));
    const procedureFlags = { ...flags, "dry-run": false };
    for (const { server, error } of view.missing) remark(flags, io, `going on without ${server.name}: ${error.what}`);
    const prepare = { asked: asked ?? chosen.forced, isOwnChoice: chosen.forced !== undefined };
    for (const step of planPrepareBackup(view, at.name, prepare)) {
      remark(flags, io, `${stepText(step)} (${step.why})`);
      await doStep(step, procedureFlags, io);
    }
    const troubleBefore = await archiveTrouble();
    const result = await runJob(storage, "backup", { volume, mode: chosen.mode }, flags, io).catch(
      async (error: unknown) => {
        throw withArchiveCause(asWalbError(error), archive.server.name, troubleBefore, await archiveTrouble());
      },
    );
    // Others get from the primary archive what it can restore.
    const after = planAfterBackup(view);
    if (flags.wait || after.length > 0) await waitRestorable(archive, volume, result.gid, flags, io);
    await bringAlong(after);
    const { gid, scannedBytes, sentBytes, elapsedMs } = result;
    const text =
      `${chosen.mode} backup of ${volume} done: scanned ${formatSize(scannedBytes)}, sent ${formatSize(sentBytes)} ` +
      `in ${formatDuration(elapsedMs)}; ` +
      `${flags.wait ? "restorable as" : "will be restorable as"} snapshot ${gid}\n`;
    print(flags, io, { volume, ...result, isRestorable: flags.wait }, text);
    const more = flags.fleet === undefined ? "" : ` --fleet ${flags.fleet}`;
    const next = flags.wait ? `walb restore ${volume} --to ${volume}.img${more}` : `walb status ${volume}${more}`;
    remark(flags, io, `next: ${next}`);
    return 0;

    /** Does what is left of a backup that somebody began, who may have been killed. @returns what was done. */
    async function goOn(): Promise<readonly Step[]> {
      const seen = await collectView(fleetWith(fleet, at), volume, askOptions(flags, io));
      const rest = planGoOn(seen, at.name) ?? [];
      const action = { kind: "settle", archive: archivesOf(fleet, volume)[0]! } as const;
      const isMore = flags.wait && rest.length > 0 && rest.every((step) => step.action.kind !== "settle");
      const all: Step[] = isMore ? [...rest, { at, volume, action, why: "it is to be restorable" }] : rest;
      for (const step of all) {
        remark(flags, io, `${stepText(step)} (${step.why})`);
        await doStep(step, { ...flags, "dry-run": false }, io);
      }
      return all;
    }

    /** The backup itself is done: an archive that does not come along is told, and how it does later. */
    async function bringAlong(steps: readonly Step[]): Promise<void> {
      for (const step of steps) {
        remark(flags, io, `${stepText(step)} (${step.why})`);
        try {
          await doStep(step, procedureFlags, io);
        } catch (thrown) {
          const error = asWalbError(thrown);
          if (error.code === "cancelled") throw error;
          const name = step.action.kind === "catch-up" ? step.action.to.name : step.at.name;
          io.err(`walb: ${error.message}\n  later: walb synchronize ${volume} --to ${name}\n`);
        }
      }
    }

    /** What the archive has to say about the volume; nothing when it cannot be asked. */
    async function archiveTrouble(): Promise<Trouble | undefined> {
      if (io.signal.aborted) return undefined;
      try {
        const { volumes } = await archive.call("status", { volume }, { timeoutMs: askTimeoutMs });
        return volumes[0]?.trouble;
      } catch {
        // It is asked only for more about a failure, or about none.
        return undefined;
      }
    }

    async function chooseMode(): Promise<Choice> {
      const [atStorage, atArchive] = await Promise.all([
        storage.call("status", { volume }, callOptions(flags, io)),
        archive.call("status", { volume }, callOptions(flags, io)),
      ]);
      const state = atStorage.volumes[0]?.state ?? "Clear";
      const image = atArchive.volumes[0];
      if (state === "Target" && (image === undefined || image.state === "Clear")) {
        throw new WalbError("state", {
          what: "the volume is being backed up continuously, but the archive does not know it",
          where: { host: archive.server.name, volume },
          hint: `see that the archive's disk is mounted; if its backups are lost for good: walb init ${volume} --device NAME, then walb backup ${volume}`,
        });
      }
      if (state === "Target" && image?.state === "SyncReady") {
        return { mode: "full", why: "the archive has no image any more (state SyncReady)", forced: "full" };
      }
      if (state === "Target") {
        throw new WalbError("state", {
          what: "the volume is being backed up continuously already; there is nothing to do",
          where: { host: storage.server.name, volume },
          hint: `look with: walb status ${volume}; to compare it with what the archive has: walb backup ${volume} --hash`,
        });
      }
      return chooseByImage(volume, archive.server.name, image?.state ?? "Clear", image?.trouble?.message);
    }
  },
});
