/** @module `wait-for-lv`: waits until a logical volume can be opened. */
import { asWalbError, WalbError } from "../../../errors.ts";
import { defineOriginal } from "../tool.ts";

const pollMs = 100;
const waitMsMax = 60_000;

export const tool = defineOriginal({
  name: "wait-for-lv",
  description: "wait-for-lv: wait until a logical volume is there and can be read, a minute at most",
  options: {},
  params: [{ name: "LV", help: "path of the logical volume" }],
  async run({ args, tool, io }) {
    const { disk } = tool.platform;
    const startMs = io.nowMs();
    for (;;) {
      try {
        if ((await disk.info(args.param(0)))?.kind === "block") {
          const file = await disk.open(args.param(0), { mode: "read" });
          await file.close();
          return 0;
        }
      } catch (error) {
        // It may not have been activated yet.
        if (io.nowMs() - startMs >= waitMsMax) throw asWalbError(error, { file: args.param(0) });
      }
      if (tool.signal.aborted) throw new WalbError("cancelled", { what: "waiting was cancelled" });
      if (io.nowMs() - startMs >= waitMsMax) {
        throw new WalbError("timed-out", {
          what: "it is no block device after a minute",
          where: { file: args.param(0) },
        });
      }
      await new Promise((resolve) => setTimeout(resolve, pollMs));
    }
  },
});
