/**
 * @module walb-logs1: before a replication, archives of the same line of backups tell each other which logs their backups
 * came from, so that two that have gone different ways are found. Not of the original, whose archives answer that they do
 * not know it.
 *
 * ```
 * C> str volume, raw[16] archiveUuid, logs          S> "ok" | text
 *                                                   S> logs, behind "ok"
 * logs: raw[16] the one that is followed, v64 count, count × raw[16] those of before
 * ```
 */
import { readAnswer, sendDecision } from "./answers.ts";
import { badField, type Decoder, type Encoder } from "./serializer.ts";
import type { WireStream } from "./stream.ts";
import { type Answer, accept, type Decision, wordOk } from "./words.ts";

export const logsProtocol = "walb-logs1";
/** Most logs of before in a message. */
const logsMax = 1_000;

/** Logs that a volume's backups come from; 32 hex digits each. */
export interface VolumeLogs {
  readonly followed: string;
  readonly before: readonly string[];
}

/** What is told of a volume. */
export interface LogsMessage {
  readonly volume: string;
  readonly archiveUuid: string;
  readonly logs: VolumeLogs;
}

/** Runs the sender's end. */
export async function runLogs(
  stream: WireStream,
  { volume, archiveUuid, logs }: LogsMessage,
): Promise<{ readonly answer: Answer; readonly logs?: VolumeLogs }> {
  stream.put((encoder) => encoder.string(volume).uuid(archiveUuid));
  stream.put((encoder) => putLogs(encoder, logs));
  const answer = await readAnswer(stream, "the answer to the logs", wordOk, stream.commitDeadlineMs);
  return answer.kind === "accept" ? { answer, logs: await readLogs(stream) } : { answer };
}

/** Serves the receiver's end. @param take what it says to the message: its own logs, or a refusal. */
export async function serveLogs(
  stream: WireStream,
  take: (message: LogsMessage) => Promise<VolumeLogs | Decision>,
): Promise<void> {
  const { volume, archiveUuid } = await stream.read("the volume of the logs", (decoder) => ({
    volume: decoder.string("volId", 1024),
    archiveUuid: decoder.uuid(),
  }));
  const taken = await take({ volume, archiveUuid, logs: await readLogs(stream) });
  await sendDecision(stream, "kind" in taken ? taken : accept, wordOk);
  if ("kind" in taken) return;
  stream.put((encoder) => putLogs(encoder, taken));
  await stream.flush("sending the logs");
}

function putLogs(encoder: Encoder, { followed, before }: VolumeLogs): Encoder {
  const told = before.slice(-logsMax);
  encoder.uuid(followed).u64(told.length);
  for (const uuid of told) encoder.uuid(uuid);
  return encoder;
}

async function readLogs(stream: WireStream): Promise<VolumeLogs> {
  const { followed, count } = await stream.read("the log that is followed", (decoder) => ({
    followed: decoder.uuid(),
    count: decoder.size("count"),
  }));
  if (count > logsMax) throw badField("count", `is ${count}, above ${logsMax}`);
  const before = await stream.read("the logs of before", (decoder: Decoder) =>
    Array.from({ length: count }, () => decoder.uuid()),
  );
  return { followed, before };
}
