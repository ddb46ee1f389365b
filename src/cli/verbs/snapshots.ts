/** @module `walb snapshots VOL` */

import { lbBytes } from "../../units.ts";
import { callOptions, clientFlags, print } from "../common.ts";
import { asVolume, toggle } from "../flags.ts";
import { archiveClient, serverFor } from "../servers.ts";
import { formatSize } from "../text/size.ts";
import { renderTable } from "../text/table.ts";
import { formatTime } from "../text/time.ts";
import { defineVerb } from "../verb.ts";

export const verb = defineVerb({
  summary: "Lists the points a volume can be restored at, oldest first",
  positionals: [{ name: "VOL", help: "name of the volume", isRequired: true }],
  flags: { all: toggle("also those the clock took, every few seconds"), ...clientFlags },
  examples: ["walb snapshots vol0", "walb snapshots vol0 --all --json"],
  async run({ flags, args, io }) {
    const volume = asVolume(args[0]!);
    const archive = archiveClient(await serverFor(flags, io, "archive", volume));
    const params = { volume, ...(flags.all ? { all: true } : {}) };
    const { snapshots } = await archive.call("snapshots", params, callOptions(flags, io));
    const rows = snapshots.map((point) => [
      formatTime(point.timeMs),
      point.gid.toString(),
      formatSize(point.bytesToRestore),
      formatSize(point.sizeLb * lbBytes),
      point.isExplicit ? "snapshot" : "clock",
      [
        ...(point.isProtected ? ["protected"] : []),
        ...(point.keptBecause === undefined ? [] : [point.keptBecause]),
      ].join(", "),
      point.label ?? "",
    ]);
    const columns = [
      { title: "TIME" },
      { title: "GID", align: "right" },
      { title: "CHANGES", align: "right" },
      { title: "SIZE", align: "right" },
      { title: "TAKEN BY" },
      { title: "KEPT" },
      { title: "LABEL" },
    ] as const;
    const none = flags.all
      ? `nothing of ${volume} can be restored yet; see: walb status ${volume}\n`
      : `nobody took a snapshot of ${volume}; those of the clock: walb snapshots ${volume} --all\n`;
    print(flags, io, { volume, snapshots }, rows.length === 0 ? none : renderTable(columns, rows));
    return 0;
  },
});
