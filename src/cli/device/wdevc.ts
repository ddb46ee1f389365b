/** @module `walb wdevc …`: the original's control of walb devices, which a link named wdevc is, too. */

import { wdevcCommands } from "../original/wdevc/commands.ts";
import { run } from "../original/wdevc/main.ts";
import { defineVerb } from "../verb.ts";

export const verb = defineVerb({
  summary: "Controls walb devices as the original's wdevc does, with its arguments, output and exit codes",
  description:
    "For scripts. Works on devices of the kernel driver, and of walb device: of the daemon that WALB_DEVICE_SOCKET or " +
    "WALB_DEVICE_DATA names. A link named wdevc to this program does the same. Options of all commands: wdevc -h",
  positionals: [
    { name: "COMMAND", help: "what to do", isRequired: true, choices: [...wdevcCommands.keys()] },
    { name: "WORD", help: "its arguments and options", isVariadic: true },
  ],
  flags: {},
  isRaw: true,
  examples: [
    "walb wdevc format-ldev /dev/vg/lv-log /dev/vg/lv",
    "walb wdevc create-wdev /dev/vg/lv-log /dev/vg/lv -n vol0",
    "walb wdevc get-log-usage /dev/walb/vol0",
  ],
  run: ({ args, io }) => run(args, io),
});
