/**
 * @module Controller commands: a list of parameters, a confirmation, for some a value and an Ack.
 *
 * The connection's protocol name is the command; this module is what follows the handshake, for both ends.
 */
import { WalbError } from "../errors.ts";
import { readAnswer } from "./answers.ts";
import type { Encoder } from "./serializer.ts";
import { badField, serializerLimits } from "./serializer.ts";
import type { WireStream } from "./stream.ts";
import { ackWord, errorText, refusedError, type wordAccept, wordOk } from "./words.ts";

/** Parameters a command may have; more is refused before it is read. */
const parametersMax = 4096;

// --- client ---

/** Puts the parameters. @throws WalbError `bad-parameter` for an empty one: peers refuse it. */
export function sendParameters(stream: WireStream, parameters: readonly string[]): void {
  const empty = parameters.indexOf("");
  if (empty >= 0) {
    throw new WalbError("bad-parameter", { what: `parameter ${empty + 1} is empty`, where: { field: `${empty}` } });
  }
  stream.put((encoder) => encoder.strings(parameters));
}

/**
 * Sends a command and waits for its confirmation.
 * @param confirmation `ok` when the work is done, `accept` when it goes on behind the answer.
 * @throws WalbError `state` with the peer's text when it refuses.
 */
export async function runCommand(
  stream: WireStream,
  command: string,
  parameters: readonly string[],
  confirmation: typeof wordOk | typeof wordAccept = wordOk,
  deadlineMs?: number,
): Promise<void> {
  sendParameters(stream, parameters);
  await confirmed(stream, command, confirmation, deadlineMs);
}

/** Reads the confirmation. @throws WalbError `state` with the peer's text. */
export async function confirmed(
  stream: WireStream,
  command: string,
  confirmation: string,
  deadlineMs: number = stream.commitDeadlineMs,
): Promise<void> {
  const answer = await readAnswer(stream, `the answer to ${command}`, confirmation, deadlineMs);
  if (answer.kind !== "accept") throw refusedError(stream.peerName, command, answer);
}

/** A command that answers with lines: `status`, `exec`. */
export async function runLines(stream: WireStream, command: string, parameters: readonly string[]): Promise<string[]> {
  await runCommand(stream, command, parameters);
  const lines = await stream.readStrings(`the lines of ${command}`);
  await stream.readAck(`the Ack of ${command}`);
  return lines;
}

/** `snapshot`. @returns the gid. */
export async function runSnapshot(stream: WireStream, volume: string): Promise<bigint> {
  await runCommand(stream, "snapshot", [volume]);
  return stream.readU64("the gid of the snapshot");
}

/** `version`: one line of LTSV, without a confirmation. */
export function runVersion(stream: WireStream): Promise<string> {
  return stream.readString("the version", serializerLimits.textBytes);
}

// --- server ---

/** How many parameters a command takes. */
export interface ParameterCount {
  readonly exactCount?: number;
  /** At least this many. */
  readonly minCount?: number;
}

/** Reads the parameters. @throws WalbError `protocol` when one is empty or the count is wrong. */
export async function readParameters(stream: WireStream, count: ParameterCount = {}): Promise<string[]> {
  const parameters = await stream.readStrings("the parameters", 4 * serializerLimits.textBytes);
  if (parameters.length > parametersMax)
    throw badField("parameters", `are ${parameters.length}, above ${parametersMax}`);
  const empty = parameters.indexOf("");
  if (empty >= 0) throw badField(`parameter ${empty + 1}`, "is empty");
  const { exactCount, minCount = 0 } = count;
  if (exactCount !== undefined && parameters.length !== exactCount) {
    throw badField("parameters", `are ${parameters.length}, but the command takes ${exactCount}`);
  }
  if (parameters.length < minCount) {
    throw badField("parameters", `are ${parameters.length}, but the command takes at least ${minCount}`);
  }
  return parameters;
}

/**
 * Answers with a confirmation and half-closes at once, so that the client is free; work may go on behind it.
 * @param put appends what follows the confirmation.
 */
export async function reply(
  stream: WireStream,
  confirmation: typeof wordOk | typeof wordAccept = wordOk,
  put?: (encoder: Encoder) => void,
): Promise<void> {
  stream.put((encoder) => {
    encoder.string(confirmation);
    put?.(encoder);
  });
  stream.confirmationDue = false;
  await stream.flush("sending the answer");
  stream.endWrite();
}

/** "ok", a value, Ack: the answer of `get`, `status` and `exec`. */
export function replyValue(stream: WireStream, put: (encoder: Encoder) => void): Promise<void> {
  return reply(stream, wordOk, (encoder) => {
    put(encoder);
    encoder.u32(ackWord);
  });
}

/** "ok", lines, Ack. */
export function replyLines(stream: WireStream, lines: readonly string[]): Promise<void> {
  return replyValue(stream, (encoder) => encoder.strings(lines));
}

/** The one string of `version`. */
export async function replyVersion(stream: WireStream, line: string): Promise<void> {
  stream.put((encoder) => encoder.string(line));
  stream.confirmationDue = false;
  await stream.flush("sending the version");
  stream.endWrite();
}

/** Answers with an error in the place of the confirmation. */
export async function replyError(stream: WireStream, error: unknown): Promise<void> {
  const text = errorText(error);
  stream.put((encoder) => encoder.string(text));
  stream.confirmationDue = false;
  await stream.flush("sending the error");
  stream.endWrite();
}
