/** @module The controller's half of each kind of command: sends the arguments, reads the answer, gives lines to print. */
import { WalbError } from "../../../errors.ts";
import { codecNames } from "../../../native/codec.ts";
import { parseCompressOption } from "../../../native/compress-option.ts";
import { sendParameters } from "../../../wire/commands.ts";
import { type GetName, getTargets, readGetValue } from "../../../wire/get.ts";
import { parseHostPort, parseNumber } from "../../../wire/grammar.ts";
import { putArchiveTarget, takeArchiveTarget } from "../../../wire/meta.ts";
import { runBhash } from "../../../wire/scan.ts";
import { serializerLimits } from "../../../wire/serializer.ts";
import type { WireStream } from "../../../wire/stream.ts";
import type { Answering } from "./syntax.ts";

/** The original marks the stack addresses it appends to errors so. */
const stackMark = "<<<STACKTRACE>>>";

/** Runs a command that is answered with lines, or with nothing but a word. */
export async function converse(
  stream: WireStream,
  name: string,
  args: readonly string[],
  answering: Exclude<Answering, "scan">,
): Promise<readonly string[]> {
  switch (answering) {
    case "ok":
    case "accept":
      sendParameters(stream, args);
      await expectWord(stream, answering);
      return [];
    case "status":
    case "exec": {
      sendParameters(stream, args);
      await expectWord(stream, "ok");
      const lines = await stream.readStrings(`the lines of ${name}`);
      await stream.readAck(`the Ack of ${name}`);
      return lines;
    }
    case "get":
      return getLines(stream, args);
    case "snapshot":
      sendParameters(stream, args);
      await expectWord(stream, "ok");
      return [`${await stream.readU64("the gid of the snapshot")}`];
    case "archive-info":
      return archiveInfo(stream, args);
    case "bhash":
      return [(await runBhash(stream, args)).toHex()];
    case "shutdown":
      stream.put((encoder) => encoder.bool(isForced(args[0])));
      await expectWord(stream, "accept");
      return [];
    case "sleep":
      return sleep(stream, args[0] ?? "1");
    case "version":
      return [await stream.readString("the version", serializerLimits.textBytes)];
  }
}

/** Reads the confirmation. @throws WalbError `state` with all a peer says, but for stack addresses. */
async function expectWord(stream: WireStream, word: "ok" | "accept", deadlineMs?: number): Promise<void> {
  const text = await stream.read(
    "the answer",
    (decoder) => decoder.string("answer", serializerLimits.textBytes),
    deadlineMs ?? stream.commitDeadlineMs,
  );
  if (text === word) return;
  const lines = text.split(/[\r\n]+/).filter((line) => !line.startsWith(stackMark) && line !== "");
  throw new WalbError("state", { what: lines.join("\n") });
}

async function getLines(stream: WireStream, args: readonly string[]): Promise<readonly string[]> {
  const name = args[0] as GetName;
  sendParameters(stream, args);
  await expectWord(stream, "ok");
  const value = await readGetValue(stream, getTargets[name].kind, name);
  await stream.readAck(`the Ack of get ${name}`);
  if (Array.isArray(value)) return value;
  return [typeof value === "boolean" ? `${Number(value)}` : `${value}`];
}

function isForced(mode: string | undefined): boolean {
  if (mode === undefined || mode === "graceful") return false;
  if (mode === "force") return true;
  throw new WalbError("usage", { what: `shutdown mode must be graceful or force:${mode}` });
}

async function sleep(stream: WireStream, text: string): Promise<readonly string[]> {
  const seconds = parseNumber(text, "seconds", 86_400);
  stream.put((encoder) => encoder.u64(seconds));
  await expectWord(stream, "ok", seconds * 1000 + stream.commitDeadlineMs);
  return [];
}

async function archiveInfo(stream: WireStream, args: readonly string[]): Promise<readonly string[]> {
  const [verb = "", volume = "", archiveName, address, compression = "snappy:0:1", delay = "0"] = args;
  const missing = (what: string): WalbError => new WalbError("usage", { what: `archive-info ${verb}: no ${what}` });
  const isPut = verb === "add" || verb === "update";
  if (!isPut && verb !== "get" && verb !== "delete" && verb !== "list") throw missing(`command ${verb}`);
  if (verb !== "list" && archiveName === undefined) throw missing("archive name");
  if (isPut && address === undefined) throw missing("addr:port");
  sendParameters(stream, [verb, volume]);
  if (verb !== "list") stream.put((encoder) => encoder.string(archiveName!));
  if (isPut) {
    const { codec, level } = parseCompressOption(compression);
    const cpuCount = parseNumber(compression.split(":")[2] ?? "1", "threads", 255, 1);
    const target = { ...parseHostPort(address!), compress: { codec, level, cpuCount } };
    const sendDelayS = parseNumber(delay, "delay", 0xffff_ffff);
    stream.put((encoder) => putArchiveTarget(encoder, { ...target, sendDelayS }));
  }
  await expectWord(stream, "ok");
  if (verb === "list") return stream.readStrings("the names of the archives");
  if (verb !== "get") return [];
  const { host, port, compress, sendDelayS } = await stream.read("the archive", (decoder) =>
    takeArchiveTarget(decoder),
  );
  return [`${host}:${port} ${codecNames[compress.codec]}:${compress.level}:${compress.cpuCount} ${sendDelayS}`];
}
