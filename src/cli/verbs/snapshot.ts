/** @module `walb snapshot VOL` */
import { asWalbError, WalbError } from "../../errors.ts";
import { collectView } from "../../fleet/procedures/collect.ts";
import { type ClientFlagValues, callOptions, clientFlags, loadFleet, print } from "../common.ts";
import { asLabel, asVolume, option, toggle } from "../flags.ts";
import { type ArchiveClient, archiveClient, archivesOf, serverFor, storageClient } from "../servers.ts";
import { formatTime } from "../text/time.ts";
import { defineVerb, type Io } from "../verb.ts";
import { waitRestorable } from "../wait.ts";

export const verb = defineVerb({
  summary: "Takes a snapshot: the volume as it is now stays restorable",
  description:
    "Several volumes are asked for at the same time; where they must be of one instant exactly, hold the writes back " +
    "meanwhile. The storage takes it, the archive keeps its label and protection. When it was taken but the archive could not " +
    "be told, it is printed all the same, and the exit code is not 0; the message says how to tell the archive later.",
  positionals: [{ name: "VOL", help: "name of the volume", isRequired: true, isVariadic: true }],
  flags: {
    wait: toggle("wait until it is restorable at the archive, and at others that proxies feed"),
    label: option("TEXT", "a name for people", asLabel),
    protect: toggle("never delete it by policy"),
    ...clientFlags,
  },
  examples: [
    "walb snapshot vol0",
    "walb snapshot db0 db1 --wait",
    'walb snapshot vol0 --label "before upgrade" --protect --wait',
  ],
  async run({ flags, args, io }) {
    const volumes = [...new Set(args.map(asVolume))];
    // Asked at the same time: they are as near to one instant as the requests arrive.
    const results = await Promise.allSettled(volumes.map((volume) => snapshotOf(volume, flags, io)));
    for (const result of results) if (result.status === "rejected" && volumes.length > 1) tell(result.reason, io);
    const failed = results.find((result) => result.status === "rejected");
    if (failed !== undefined) throw failed.reason;
    return 0;
  },
});

type SnapshotFlagValues = ClientFlagValues & {
  readonly wait: boolean;
  readonly label: string | undefined;
  readonly protect: boolean;
};

/** Each failure is told: the last one said is not the only one. */
function tell(error: unknown, io: Io): void {
  io.err(`walb: ${asWalbError(error).message}\n`);
}

/** Takes one, marks it, waits until it is restorable where it is to be. */
async function snapshotOf(volume: string, flags: SnapshotFlagValues, io: Io): Promise<void> {
  const storage = storageClient(await serverFor(flags, io, "storage", volume));
  const marks = {
    ...(flags.label === undefined ? {} : { label: flags.label }),
    ...(flags.protect ? { protect: true } : {}),
  };
  const isMarked = Object.keys(marks).length > 0;
  // Found out before anything is done: a fleet without an archive is a wrong command line.
  const archive = isMarked || flags.wait ? archiveClient(archivesOf(loadFleet(flags, io), volume)[0]!) : undefined;
  const { gid, timeMs } = await storage.call("snapshot", { volume }, callOptions(flags, io));
  const text = `${volume} ${gid} ${formatTime(timeMs)}\n`;
  if (archive !== undefined && isMarked) {
    try {
      await archive.call("label-snapshot", { volume, gid, ...marks }, callOptions(flags, io));
    } catch (thrown) {
      const error = unmarked(asWalbError(thrown), volume, gid, archive.server.name, marks);
      print(flags, io, { volume, gid, timeMs, isRestorable: false, isMarked: false }, text);
      throw error;
    }
  }
  if (archive !== undefined && flags.wait) {
    await waitRestorable(archive, volume, gid, flags, io);
    for (const other of await fedArchives(volume, flags, io)) await waitRestorable(other, volume, gid, flags, io);
  }
  print(flags, io, { volume, gid, timeMs, isRestorable: flags.wait, ...marks }, text);
}

/** Archives besides the primary that proxies feed with the volume. */
async function fedArchives(volume: string, flags: ClientFlagValues, io: Io): Promise<ArchiveClient[]> {
  const view = await collectView(loadFleet(flags, io), volume, { signal: io.signal });
  const fed = new Set(
    view.proxies.flatMap(({ volume: { archives } }) => archives.map(({ archiveName }) => archiveName)),
  );
  const others = view.archives.filter(({ server }) => server.name !== view.primary.name && fed.has(server.name));
  return others.map(({ server }) => archiveClient(server));
}

/** Why the archive does not know of label and protection, with the exit code of what went wrong there. */
function unmarked(
  cause: WalbError,
  volume: string,
  gid: bigint,
  archive: string,
  marks: { readonly label?: string; readonly protect?: boolean },
): WalbError {
  const what = [marks.label === undefined ? [] : ["its label"], marks.protect ? ["to protect it"] : []].flat();
  const label = marks.label === undefined ? "" : shellWord(marks.label);
  const command = marks.protect
    ? `walb protect ${volume} ${gid}${label === "" ? "" : ` --label ${label}`}`
    : `walb label ${volume} ${gid} ${label}`;
  return new WalbError(cause.code, {
    what: `snapshot ${gid} was taken, but archive ${archive} could not be told ${what.join(" and ")}`,
    where: { volume },
    hint: `do not take it again; when the archive is back: ${command}`,
    cause,
  });
}

/** A word as a shell reads it. */
function shellWord(text: string): string {
  return /^[\w.,:/@%+-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}
