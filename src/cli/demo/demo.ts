/** @module `walb demo`: the main job on one machine, with real daemons, and the proof that the restores are right. */
import { existsSync } from "node:fs";
import { resolve } from "node:path";
import { WalbError } from "../../errors.ts";
import { closePlatform, createPlatform } from "../../platform/real/index.ts";
import { gib, mib } from "../../units.ts";
import { asPath, asSize, option, optionOr, toggle } from "../flags.ts";
import { formatDuration } from "../text/time.ts";
import { defineVerb } from "../verb.ts";
import { Play } from "./play.ts";
import { Report } from "./report.ts";
import { openStage } from "./stage.ts";

export const verb = defineVerb({
  summary: "Backs up and restores a live volume on this machine, and proves that nothing was lost",
  description:
    "Starts device, storage, proxy and archive on loopback, with their data in one new directory that is removed at the end.",
  flags: {
    data: option("DIR", "new directory for everything; default: below /var/tmp", asPath),
    size: optionOr("SIZE", "of the volume, at least 256M; sparse", asSize, "1G"),
    keep: toggle("leave directory and logs behind"),
  },
  examples: ["walb demo", "walb demo --size 4G --data ./walb-demo --keep"],
  exits: { 5: "a restored image is not what was live" },
  async run({ flags, io }) {
    if (flags.size < 256 * mib || flags.size > 1024 * gib || flags.size % 4096 !== 0) {
      throw new WalbError("usage", { what: "--size must be from 256M to 1T, and whole blocks of 4K" });
    }
    const directory = resolve(io.cwd, flags.data ?? `/var/tmp/walb-demo-${process.pid}`);
    if (existsSync(directory)) {
      throw new WalbError("usage", {
        what: `${directory} is there already`,
        hint: "give a directory that does not exist: walb demo --data ./walb-demo",
      });
    }
    const startMs = performance.now();
    const report = new Report(io);
    const platform = createPlatform();
    let stage: Awaited<ReturnType<typeof openStage>> | undefined;
    let play: Play | undefined;
    let isDone = false;
    try {
      await report.step("start device, storage, proxy and archive", async () => {
        stage = await openStage(directory, io);
        const { storage, proxy, archive } = stage.addresses;
        return { result: `ports ${[storage, proxy, archive].map((at) => at.split(":").at(-1)).join(", ")}` };
      });
      play = new Play(stage!, report, io, platform.net, flags.size);
      await play.perform();
      isDone = true;
    } finally {
      play?.close();
      // After a failure the logs are what somebody wants to see.
      const isKept = flags.keep || (!isDone && !io.signal.aborted);
      await stage?.close(isKept);
      if (isKept && stage !== undefined) io.err(`walb: data and logs are in ${directory}\n`);
      await closePlatform(platform);
    }
    report.say(`\n${report.table()}`);
    report.say(`Everything took ${formatDuration(performance.now() - startMs)}, and nothing was lost.\n`);
    report.say(nextSteps);
    return 0;
  },
});

const nextSteps = `Try next, on your own machines:
  walb archive --data /srv/walb/archive     the backup host; walb proxy and walb storage beside it or elsewhere
  walb device --help                        block devices in user space, for QEMU or the kernel
  walb init VOL --device NAME               put one under backup
  walb restore VOL --at -5m --to PATH       bring back the last five minutes
  walb --help                               everything else`;
