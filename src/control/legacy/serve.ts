/**
 * @module Serves the original's commands on the wire: reads the parameters, calls a command's binding, answers.
 *
 * Accepted work belongs to the daemon, not to the connection: a client that goes away, or stays, changes nothing.
 */
import { asWalbError, WalbError } from "../../errors.ts";
import type { Clock } from "../../platform/clock.ts";
import { readParameters, reply, replyLines, replyValue, replyVersion } from "../../wire/commands.ts";
import { type GetKind, type GetRequest, type GetRole, type GetValueOf, readGet, replyGet } from "../../wire/get.ts";
import type { WireCaller, WireHandler } from "../../wire/server.ts";
import type { WireStream } from "../../wire/stream.ts";
import { PeerError } from "../../wire/words.ts";
import type { Control } from "../control.ts";
import type { Logger } from "../logger.ts";
import type { PeerProcess } from "../role.ts";
import { archiveLegacy } from "./archive.ts";
import type { LegacyCall, LegacyCommand, LegacyCommands, LegacyRole } from "./command.ts";
import { proxyLegacy } from "./proxy.ts";
import { volumeName } from "./refusal.ts";
import type { HandlerStatistics } from "./statistics.ts";
import { storageLegacy } from "./storage.ts";

/** What {@link legacyHandlers} needs. */
export interface LegacyParts {
  readonly role: LegacyRole;
  readonly control: Control;
  readonly clock: Clock;
  readonly log: Logger;
  readonly statistics: HandlerStatistics;
  readonly process: PeerProcess | undefined;
}

const tables: Readonly<Record<GetRole, LegacyCommands>> = {
  storage: storageLegacy,
  proxy: proxyLegacy,
  archive: archiveLegacy,
};

/** Longest a client may let us sleep. */
const sleepSecondsMax = 86_400;
/** Pieces of a sleep: the end of the daemon is noticed between them. */
const sleepStepMs = 1_000;

/** Most clients that sleep at once: a conversation each, of which others need some. */
const sleepersMax = 8;

/** Handlers of all controller commands of a role, by name. */
export function legacyHandlers(parts: LegacyParts): ReadonlyMap<string, WireHandler> {
  let sleepers = 0;
  const sleep = async (stream: WireStream): Promise<void> => {
    if (sleepers >= sleepersMax) {
      throw new WalbError("busy", { what: `${sleepers} clients sleep here already`, hint: "try again later" });
    }
    sleepers += 1;
    try {
      await serveSleep(parts, stream);
    } finally {
      sleepers -= 1;
    }
  };
  const handlers = new Map<string, WireHandler>([
    ["version", (stream) => replyVersion(stream, versionLine(parts.control))],
    ["sleep", sleep],
    ["shutdown", (stream) => serveShutdown(parts, stream)],
    ["status", (stream) => serveStatus(parts, stream)],
    ["get", (stream, caller) => serveGet(parts, stream, caller)],
    ["exec", (stream) => serveExec(parts, stream)],
  ]);
  for (const [name, command] of Object.entries(tables[parts.role.role])) {
    handlers.set(name, (stream) => serveCommand(parts, name, command, stream));
  }
  return handlers;
}

function versionLine(control: Control): string {
  return `version:${control.info().version}\tlog_version:2`;
}

async function serveCommand(
  { role, control, clock, log }: LegacyParts,
  name: string,
  command: LegacyCommand,
  stream: WireStream,
): Promise<void> {
  const parameters = await readParameters(stream);
  const call: LegacyCall = { parameters, stream, role, control, clock, log };
  const answer = await command(call);
  if (answer.kind === "served") return;
  if (answer.kind === "ok") return reply(stream, "ok", answer.put);
  const { work } = answer;
  // Begun before the answer: a client that is gone by then has asked for it all the same.
  if (work !== undefined) {
    work().catch((error: unknown) => log.warn(`${name} failed`, { parameters: parameters.join(" "), error }));
  }
  return reply(stream, "accept");
}

async function serveStatus({ role }: LegacyParts, stream: WireStream): Promise<void> {
  const [volume] = await readParameters(stream);
  return replyLines(stream, await role.status(volume === undefined ? undefined : volumeName(volume)));
}

async function serveGet(parts: LegacyParts, stream: WireStream, caller: WireCaller): Promise<void> {
  const request = await readGet(stream, parts.role.role);
  parts.statistics.asked(request.name, caller.clientId);
  return replyGet(stream, request.name, await targetValue(parts, request));
}

async function targetValue(parts: LegacyParts, request: GetRequest): Promise<GetValueOf<GetKind>> {
  const { name, args } = request;
  switch (name) {
    case "host-type":
      return parts.role.role;
    case "pid":
      return parts.process?.pid ?? 0;
    case "handler-stat":
      return parts.statistics.take();
    case "state":
      return parts.role.situation(volumeName(args[0]!)).state;
    default:
      return parts.role.get(request);
  }
}

async function serveSleep({ clock, control }: LegacyParts, stream: WireStream): Promise<void> {
  const seconds = Number(await stream.readU64("the seconds to sleep"));
  if (seconds > sleepSecondsMax) {
    throw new WalbError("out-of-range", {
      what: `${seconds} s are too long to sleep`,
      hint: `at most ${sleepSecondsMax}`,
    });
  }
  const endMs = clock.monotonicMs() + seconds * 1000;
  for (let restMs = seconds * 1000; restMs > 0; restMs = endMs - clock.monotonicMs()) {
    if (control.isClosing || stream.failure !== undefined || stream.connection.isClosed) return;
    await clock.sleep(Math.min(sleepStepMs, restMs));
  }
  return reply(stream);
}

/** Answers first: the connection would not outlive it. */
async function serveShutdown({ control }: LegacyParts, stream: WireStream): Promise<void> {
  const isForced = await stream.readBool("the mode of shutdown");
  try {
    await reply(stream, "accept");
  } finally {
    await control.call("shutdown", { mode: isForced ? "force" : "graceful" });
  }
}

async function serveExec({ process }: LegacyParts, stream: WireStream): Promise<void> {
  const words = await readParameters(stream, { minCount: 1 });
  if (process?.exec === undefined) {
    throw new PeerError(
      "exec is disabled",
      new WalbError("unsupported", {
        what: "this daemon runs no programs for others",
        hint: "start it with --allow-exec wdevc for the device tool alone",
      }),
    );
  }
  let lines: readonly string[];
  try {
    lines = await process.exec(words);
  } catch (error) {
    throw error instanceof PeerError ? error : asWalbError(error, { step: "exec" });
  }
  return replyValue(stream, (encoder) => encoder.strings(lines));
}
