/**
 * @module `get`: every target, the daemons that have it, its arguments and the kind of its value.
 *
 * The wire does not say the kind of a value: both ends know it from the target. Source: `docs/protocol.md`, get targets.
 */
import { WalbError, withArticle } from "../errors.ts";
import { readParameters, replyValue, runCommand } from "./commands.ts";
import { type Encoder, serializerLimits } from "./serializer.ts";
import type { WireStream } from "./stream.ts";
import { PeerError } from "./words.ts";

/** number: v64; flag: one byte; text: a string; lines: a vector of strings. */
export type GetKind = "number" | "flag" | "text" | "lines";
export type GetRole = "storage" | "proxy" | "archive";

/** What is known about a target. */
export interface GetTarget<Kind extends GetKind = GetKind> {
  readonly roles: readonly GetRole[];
  readonly kind: Kind;
  readonly minArgs: number;
  readonly maxArgs: number;
}

const all: readonly GetRole[] = ["storage", "proxy", "archive"];

function target<Kind extends GetKind>(
  roles: readonly GetRole[],
  kind: Kind,
  minArgs: number,
  maxArgs = minArgs,
): GetTarget<Kind> {
  return { roles, kind, minArgs, maxArgs };
}

/** All targets by name. */
export const getTargets = {
  state: target(all, "text", 1),
  "host-type": target(all, "text", 0),
  vol: target(all, "lines", 0),
  pid: target(all, "number", 0),
  "handler-stat": target(all, "lines", 0),
  "is-overflow": target(["storage"], "number", 1),
  "log-usage": target(["storage"], "lines", 0, 1),
  "latest-snap": target(all, "lines", 0, 1),
  uuid: target(["storage", "archive"], "text", 1),
  "ts-delta": target(["storage", "archive"], "lines", 0),
  "is-wdiff-send-error": target(["proxy"], "number", 2),
  "proxy-diff": target(["proxy"], "lines", 1, 2),
  diff: target(["archive"], "lines", 1, 3),
  "applicable-diff": target(["archive"], "lines", 1, 2),
  "total-diff-size": target(["archive"], "number", 1, 3),
  "num-diff": target(["archive"], "number", 1, 3),
  "exists-diff": target(["archive"], "flag", 5),
  "exists-base-image": target(["archive"], "flag", 1),
  "num-action": target(["archive"], "number", 2),
  restored: target(["archive"], "lines", 1),
  cold: target(["archive"], "lines", 1),
  restorable: target(["archive"], "lines", 1, 2),
  "archive-uuid": target(["archive"], "text", 1),
  base: target(["archive"], "text", 1),
  "base-all": target(["archive"], "lines", 0),
  "vol-size": target(["archive"], "number", 1),
  progress: target(["archive"], "number", 1),
  "volume-group": target(["archive"], "text", 0),
  thinpool: target(["archive"], "text", 0),
  "all-actions": target(["archive"], "lines", 0),
  "meta-snap": target(["archive"], "text", 1, 2),
  "meta-state": target(["archive"], "text", 2, 3),
} as const satisfies Record<string, GetTarget>;

export type GetName = keyof typeof getTargets;

/** A value as its kind says. */
export type GetValue<Name extends GetName> = GetValueOf<(typeof getTargets)[Name]["kind"]>;
export type GetValueOf<Kind extends GetKind> = {
  number: number;
  flag: boolean;
  text: string;
  lines: string[];
}[Kind];

/** A target's entry, undefined when there is none of that name. */
export function findGetTarget(name: string): GetTarget | undefined {
  return Object.hasOwn(getTargets, name) ? getTargets[name as GetName] : undefined;
}

/** Asks for a target's value. @throws WalbError `state` with the peer's text when it refuses. */
export async function runGet<Name extends GetName>(
  stream: WireStream,
  name: Name,
  args: readonly string[] = [],
  deadlineMs?: number,
): Promise<GetValue<Name>> {
  const { kind, minArgs, maxArgs } = getTargets[name];
  if (args.length < minArgs || args.length > maxArgs) throw wrongArgs(name, minArgs, maxArgs, args.length);
  await runCommand(stream, "get", [name, ...args], "ok", deadlineMs);
  const value = await readGetValue(stream, kind, name);
  await stream.readAck(`the Ack of get ${name}`);
  return value as GetValue<Name>;
}

/** Reads a value of a kind. */
export async function readGetValue(stream: WireStream, kind: GetKind, name: string): Promise<GetValueOf<GetKind>> {
  switch (kind) {
    case "number":
      return stream.readSize(`the value of ${name}`);
    case "flag":
      return stream.readBool(`the value of ${name}`);
    case "text":
      return stream.readString(`the value of ${name}`, serializerLimits.textBytes);
    case "lines":
      return stream.readStrings(`the lines of ${name}`);
  }
}

/** A parsed request. */
export interface GetRequest {
  readonly name: GetName;
  readonly args: readonly string[];
}

/** Reads and checks a request on a daemon of a role. @throws WalbError for a target it does not have. */
export async function readGet(stream: WireStream, role: GetRole): Promise<GetRequest> {
  const [name, ...args] = await readParameters(stream);
  if (name === undefined) throw new PeerError("runGetCommandServer:no target specified");
  const known = findGetTarget(name);
  if (known === undefined || !known.roles.includes(role)) {
    const names = Object.keys(getTargets).filter((key) => findGetTarget(key)?.roles.includes(role) === true);
    throw new PeerError(
      `runGetCommandServer:no such target:${name}`,
      new WalbError("bad-parameter", {
        what: `${withArticle(role)} has no target ${JSON.stringify(name)} to get`,
        hint: `the targets are ${names.join(", ")}`,
      }),
    );
  }
  if (args.length < known.minArgs) throw new PeerError(`missing required params: ${args.length} ${known.minArgs}`);
  return { name: name as GetName, args };
}

/** Answers a request. */
export function replyGet<Name extends GetName>(stream: WireStream, name: Name, value: GetValue<Name>): Promise<void> {
  return replyValue(stream, (encoder) => putValue(encoder, getTargets[name].kind, value));
}

function putValue(encoder: Encoder, kind: GetKind, value: GetValueOf<GetKind>): void {
  if (kind === "number" && typeof value === "number") encoder.u64(value);
  else if (kind === "flag" && typeof value === "boolean") encoder.bool(value);
  else if (kind === "text" && typeof value === "string") encoder.string(value);
  else if (kind === "lines" && Array.isArray(value)) encoder.strings(value);
  else throw new WalbError("internal", { what: `a ${kind} was expected to be sent, not ${typeof value}` });
}

function wrongArgs(name: string, min: number, max: number, count: number): WalbError {
  const range = min === max ? `${min}` : `${min} to ${max}`;
  return new WalbError("bad-parameter", { what: `get ${name} takes ${range} arguments, not ${count}` });
}
