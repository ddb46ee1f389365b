/** @module `walb images VOL`: images of points that an archive keeps. */
import { callOptions, clientFlags, print } from "../common.ts";
import { asVolume } from "../flags.ts";
import { archiveClient, serverFor } from "../servers.ts";
import { renderTable } from "../text/table.ts";
import { formatTime } from "../text/time.ts";
import { defineVerb } from "../verb.ts";

export const verb = defineVerb({
  summary: "Lists the images an archive keeps of points of a volume",
  description:
    "restored: made by walb restore --keep, to be used by people and programs.\n" +
    "cold: kept by restores where that costs nothing, so that the next ones begin there; not to be written to.",
  positionals: [{ name: "VOL", help: "name of the volume", isRequired: true }],
  flags: clientFlags,
  examples: ["walb images vol0", "walb images vol0 --json"],
  async run({ flags, args, io }) {
    const volume = asVolume(args[0]!);
    const archive = archiveClient(await serverFor(flags, io, "archive", volume));
    const { restored } = await archive.call("restored", { volume }, callOptions(flags, io));
    const { cold } = await archive.call("cold", { volume }, callOptions(flags, io));
    const rows = [
      ...restored.map((image) => ({ ...image, kind: "restored" })),
      ...cold.map((image) => ({ ...image, kind: "cold" })),
    ].map(({ gid, timeMs, kind, path }) => [
      timeMs === undefined ? "(given up)" : formatTime(timeMs),
      gid.toString(),
      kind,
      path,
    ]);
    const columns = [
      { title: "TIME" },
      { title: "GID", align: "right" },
      { title: "KIND" },
      { title: "PATH" },
    ] as const;
    const none = `${archive.server.name} keeps no images of ${volume}; make one with: walb restore ${volume} --keep\n`;
    print(flags, io, { volume, restored, cold }, rows.length === 0 ? none : renderTable(columns, rows));
    return 0;
  },
});
