/** @module `walb snapshot VOL` */
import { asWalbError, WalbError } from "../../errors.ts";
import { callOptions, clientFlags, loadFleet, print } from "../common.ts";
import { asLabel, asVolume, option, toggle } from "../flags.ts";
import { archiveClient, archivesOf, serverFor, storageClient } from "../servers.ts";
import { formatTime } from "../text/time.ts";
import { defineVerb } from "../verb.ts";
import { waitRestorable } from "../wait.ts";

export const verb = defineVerb({
  summary: "Takes a snapshot: the volume as it is now stays restorable",
  description:
    "The storage takes it, the archive keeps its label and protection. When it was taken but the archive could not " +
    "be told, it is printed all the same, and the exit code is not 0; the message says how to tell the archive later.",
  positionals: [{ name: "VOL", help: "name of the volume", isRequired: true, isVariadic: true }],
  flags: {
    wait: toggle("wait until it is restorable at the archive"),
    label: option("TEXT", "a name for people", asLabel),
    protect: toggle("never delete it by policy"),
    ...clientFlags,
  },
  examples: ["walb snapshot vol0", 'walb snapshot vol0 --label "before upgrade" --protect --wait'],
  async run({ flags, args, io }) {
    if (args.length > 1) {
      throw new WalbError("unsupported", {
        what: "several volumes at one instant are not possible yet",
        hint: `take them one after the other: ${args.map((name) => `walb snapshot ${name}`).join("; ")}`,
      });
    }
    const volume = asVolume(args[0]!);
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
    if (archive !== undefined && flags.wait) await waitRestorable(archive, volume, gid, flags, io);
    print(flags, io, { volume, gid, timeMs, isRestorable: flags.wait, ...marks }, text);
    return 0;
  },
});

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
