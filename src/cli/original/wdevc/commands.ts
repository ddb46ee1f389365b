/** @module The commands of `wdevc`: arguments, options and output as the original has them. */
import { WalbError } from "../../../errors.ts";
import type { OriginalOption, OriginalParam } from "../options.ts";
import type { OriginalContext, OriginalTool } from "../tool.ts";
import { createWdev, formatLdev, listWdevs, printVersion } from "./create.ts";
import { asIoctl, errnoBusy } from "./errors.ts";
import { openTarget, type WdevTarget } from "./target.ts";

const clearPollMs = 500;
const clearTimeoutS = 10;

const wdev: OriginalParam = { name: "WDEV", help: "walb device: /dev/walb/NAME, or its name" };
const stores: readonly OriginalParam[] = [
  { name: "LDEV", help: "log device, or file" },
  { name: "DDEV", help: "data device, or file" },
];
const name: OriginalOption = { kind: "text", help: "name of the device", default: "" };

function int(value: number, help: string): OriginalOption {
  return { kind: "int", help, default: String(value) };
}

/** A command on one device. */
function onDevice(
  command: string,
  help: string,
  run: (device: WdevTarget, context: OriginalContext) => Promise<unknown>,
  more: Partial<Pick<OriginalTool, "options" | "params">> & { readonly busyErrno?: number } = {},
): OriginalTool {
  return {
    name: `wdevc ${command}`,
    description: `${command}: ${help}`,
    options: more.options ?? {},
    params: [wdev, ...(more.params ?? [])],
    async run(context) {
      const device = await openTarget(context.tool.platform, context.io, context.args.param(0));
      try {
        await asIoctl(() => run(device, context), more.busyErrno);
      } finally {
        await device.close();
      }
      return 0;
    },
  };
}

/** A command that prints one value of a device. */
function printing(
  command: string,
  help: string,
  value: (device: WdevTarget) => Promise<number | boolean>,
): OriginalTool {
  return onDevice(command, help, async (device, { print }) => print(String(Number(await value(device)))));
}

const tools: readonly OriginalTool[] = [
  {
    name: "wdevc format-ldev",
    description: "format-ldev: make an empty log on LDEV for the volume on DDEV; what LDEV holds is lost",
    options: { n: name, nd: { kind: "flag", help: "do not discard LDEV first" } },
    params: stores,
    run: formatLdev,
  },
  {
    name: "wdevc create-wdev",
    description: "create-wdev: start a walb device over a formatted log and its data",
    options: {
      n: { ...name, help: "name of the device; without it that in the log" },
      maxl: int(32, "max size of a log pack [KiB], 0 for no limit"),
      maxp: int(32, "max size of pending data [MiB]"),
      minp: int(16, "pending data below which a stopped queue goes on [MiB]"),
      qp: int(100, "timeout of a stopped queue [ms]"),
      fs: int(16, "log flush interval [MiB]"),
      fp: int(100, "log flush interval [ms]"),
      bp: int(128, "log packs in bulk"),
      bi: int(1024, "I/Os in bulk"),
    },
    params: stores,
    run: createWdev,
  },
  onDevice(
    "delete-wdev",
    "stop a walb device; log and data stay as they are",
    (device, { args }) => device.delete(args.flag("f")),
    { options: { f: { kind: "flag", help: "also while it is open" } }, busyErrno: errnoBusy },
  ),
  {
    name: "wdevc list",
    description: "list: walb devices, one `major minor name` a line",
    options: {},
    params: [],
    run: listWdevs,
  },
  onDevice(
    "set-checkpoint-interval",
    "set the time between checkpoints; 0 for none by time",
    (device, { args }) => device.setCheckpointIntervalMs(args.intParam(1)),
    { params: [{ name: "MS", help: "interval [ms], up to 86400000" }] },
  ),
  printing("get-checkpoint-interval", "time between checkpoints [ms]", (device) => device.checkpointIntervalMs()),
  onDevice("force-checkpoint", "take a checkpoint now", (device) => device.checkpoint()),
  onDevice("set-oldest-lsid", "erase log below an lsid", (device, { args }) => device.setOldest(args.intParam(1)), {
    params: [{ name: "LSID", help: "first lsid to keep" }],
  }),
  printing("get-oldest-lsid", "oldest lsid that is kept", async (device) => (await device.status()).lsids.oldest),
  printing(
    "get-written-lsid",
    "lsid up to which data is written",
    async (device) => (await device.status()).lsids.written,
  ),
  printing(
    "get-permanent-lsid",
    "lsid up to which log is durable",
    async (device) => (await device.status()).lsids.permanent,
  ),
  printing(
    "get-completed-lsid",
    "lsid up to which writes are done",
    async (device) => (await device.status()).lsids.completed,
  ),
  printing("get-log-usage", "log in use [physical blocks]", async (device) => (await device.logUsage()).usagePb),
  printing(
    "get-log-capacity",
    "capacity of the log [physical blocks]",
    async (device) => (await device.logUsage()).capacityPb,
  ),
  printing("is-flush-capable", "1 when it takes flushes, else 0", (device) => device.isFlushCapable()),
  onDevice("resize", "grow a walb device", (device, { args }) => device.resize(args.intParam(1)), {
    params: [
      { name: "SIZE", help: "size [logical blocks], 0 for that of the data device", default: "0", isOptional: true },
    ],
  }),
  onDevice("reset-wal", "empty the log, which recovers from overflow", (device) => device.resetLog()),
  onDevice("clear-wal", "erase all log, when it is written to the data", clearWal, {
    params: [{ name: "TIMEOUT", help: "timeout [s]", default: String(clearTimeoutS), isOptional: true }],
  }),
  printing(
    "is-log-overflow",
    "1 when the log has overflowed, else 0",
    async (device) => (await device.status()).isOverflow,
  ),
  onDevice("freeze", "hold writes back", (device, { args }) => device.freeze(args.intParam(1)), {
    params: [{ name: "TIMEOUT", help: "melt by itself after [s], 0 for never", default: "0", isOptional: true }],
  }),
  printing("is-flozen", "1 when it is frozen, else 0", (device) => device.isFrozen()),
  onDevice("melt", "let writes go on", (device) => device.melt()),
  {
    name: "wdevc get-version",
    description: "get-version: version of the driver",
    options: {},
    params: [],
    run: printVersion,
  },
];

/** Each command by its name. */
export const wdevcCommands: ReadonlyMap<string, OriginalTool> = new Map(
  tools.map((tool) => [tool.name.slice("wdevc ".length), tool]),
);

async function clearWal(device: WdevTarget, { args, tool }: OriginalContext): Promise<void> {
  const { clock } = tool.platform;
  const limitMs = clock.monotonicMs() + args.intParam(1) * 1000;
  const { permanent } = (await device.status()).lsids;
  while ((await device.status()).lsids.written < permanent) {
    if (clock.monotonicMs() >= limitMs) {
      throw new WalbError("timed-out", {
        what: `the log up to lsid ${permanent} was not written to the data within ${args.intParam(1)} s`,
        where: { volume: device.name },
        hint: "is the device frozen, or its data device slow?",
      });
    }
    await clock.sleep(clearPollMs);
  }
  await device.checkpoint();
  await device.setOldest(permanent);
}
