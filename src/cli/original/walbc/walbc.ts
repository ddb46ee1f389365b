/** @module `walbc`: the original's controller, over the wire protocol, for its daemons and for ours. */
import { hostname } from "node:os";
import { asWalbError, WalbError } from "../../../errors.ts";
import type { Platform } from "../../../platform/platform.ts";
import { connectWire } from "../../../wire/handshake.ts";
import type { OriginalArgs } from "../options.ts";
import { defineOriginal, type OriginalContext } from "../tool.ts";
import { converse } from "./converse.ts";
import { receiveScan } from "./scan.ts";
import { type Answering, checkedCommand, checkGet, commandsText } from "./syntax.ts";

const retriedCommands = ["status", "get"];
const retriesDefault = 2;
const retryPauseMs = 100;

export const tool = defineOriginal({
  name: "walbc",
  description: `walbc: controls walb daemons\n${commandsText()}`,
  options: {
    a: { kind: "text", help: "host of the daemon", isRequired: true },
    p: { kind: "int", help: "its port", isRequired: true },
    to: { kind: "int", help: "timeout of every step, seconds", default: "10" },
    id: { kind: "text", help: "our id; default: the host name" },
    retry: { kind: "int", help: "tries more of status and get (default:2)" },
  },
  params: [
    { name: "command", help: "what to do" },
    { name: "args", help: "its arguments", isOptional: true, isVariadic: true },
  ],
  // What it runs has options of its own.
  rawBehind: "exec",
  check(args) {
    const [name = "", ...words] = args.params;
    checkedCommand(name, words);
    const port = args.int("p");
    if (port < 1 || port > 65_535) throw new WalbError("usage", { what: `OptionError:bad port:${port}` });
  },
  async run(context) {
    const { args } = context;
    const [name = "", ...words] = args.params;
    const { answering } = checkedCommand(name, words);
    let tries: number;
    try {
      if (answering === "get") checkGet(words);
      tries = 1 + retriesOf(name, args);
    } catch (error) {
      return failed(context, asWalbError(error));
    }
    for (let tried = 1; ; tried++) {
      try {
        for (const line of await runOnce(context, name, words, answering)) context.print(line);
        return 0;
      } catch (thrown) {
        const error = asWalbError(thrown);
        if (tried === tries) return failed(context, error);
        context.printError(`error: ${textOf(error)}`);
        context.printError(`retry ${tried}`);
        await context.tool.platform.clock.sleep(retryPauseMs);
      }
    }
  },
});

function retriesOf(name: string, args: OriginalArgs): number {
  const given = args.optionalInt("retry");
  if (retriedCommands.includes(name)) return given ?? retriesDefault;
  if (given === undefined) return 0;
  throw new WalbError("usage", { what: `-retry is for ${retriedCommands.join(", ")} only` });
}

async function runOnce(
  { args, tool: { platform } }: OriginalContext,
  name: string,
  words: readonly string[],
  answering: Answering,
): Promise<readonly string[]> {
  const stream = await open(platform, args, name);
  try {
    if (answering !== "scan") return await converse(stream, name, words, answering);
    await receiveScan(platform, stream, words);
    return [];
  } finally {
    // At once: the original works behind its answers only when we are gone.
    stream.close();
  }
}

async function open(platform: Platform, args: OriginalArgs, protocol: string) {
  const deadlineMs = args.int("to") * 1000;
  const address = { kind: "tcp", host: args.text("a"), port: args.int("p") } as const;
  const clientId = args.optionalText("id") ?? hostname();
  const options = { clock: platform.clock, clientId, protocol, deadlineMs, commitDeadlineMs: deadlineMs };
  return (await connectWire(platform.net, address, options)).stream;
}

function failed(context: OriginalContext, error: WalbError): number {
  context.logError(`walbc error: ${textOf(error)}`);
  return 1;
}

function textOf(error: WalbError): string {
  return error.hint === undefined ? error.message : `${error.message} (${error.hint})`;
}
