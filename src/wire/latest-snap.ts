/**
 * @module gather-latest-snap: a storage asks its primary archive for the newest snapshots of its volumes.
 *
 * ```
 * C> str "ok", SV volumes
 * S> "accept", vector of SnapshotInfo in the same order, "ok"
 * ```
 */
import { readAnswer, sendDecision } from "./answers.ts";
import { type LatestSnapshot, putLatestSnapshot, takeLatestSnapshot } from "./meta.ts";
import { serializerLimits } from "./serializer.ts";
import type { WireStream } from "./stream.ts";
import { type Decision, ProtocolName, refusedError, wordOk } from "./words.ts";

/** Asks for the newest snapshots. @throws WalbError `state` with the archive's text when it refuses. */
export async function runLatestSnap(stream: WireStream, volumes: readonly string[]): Promise<LatestSnapshot[]> {
  stream.put((encoder) => encoder.string(wordOk).strings(volumes));
  const answer = await readAnswer(stream, "the answer to gather-latest-snap");
  if (answer.kind !== "accept") throw refusedError(stream.peerName, ProtocolName.gatherLatestSnap, answer);
  const count = await stream.readSize("the count of snapshots", serializerLimits.elements);
  const values: LatestSnapshot[] = [];
  for (let i = 0; i < count; i++) {
    values.push(stream.poll(takeLatestSnapshot) ?? (await stream.read("a snapshot", takeLatestSnapshot)));
  }
  const end = await readAnswer(stream, "the end of gather-latest-snap", wordOk);
  if (end.kind !== "accept") throw refusedError(stream.peerName, ProtocolName.gatherLatestSnap, end);
  return values;
}

/** Serves the archive's end. `answer` may refuse with a decision. */
export async function serveLatestSnap(
  stream: WireStream,
  answer: (volumes: readonly string[]) => Promise<readonly LatestSnapshot[] | Exclude<Decision, { kind: "accept" }>>,
): Promise<void> {
  const word = await stream.readString("the begin of gather-latest-snap", 64 * 1024);
  // Anything else is the client's own error: it does not go on.
  if (word !== wordOk) {
    stream.confirmationDue = false;
    return;
  }
  const volumes = await stream.readStrings("the volumes");
  const values = await answer(volumes);
  if ("kind" in values) {
    await sendDecision(stream, values);
    return;
  }
  await sendDecision(stream, { kind: "accept" });
  stream.put((encoder) => encoder.u64(values.length));
  for (const value of values) {
    stream.put((encoder) => putLatestSnapshot(encoder, value));
    if (stream.isFlushDue) await stream.flush("sending snapshots");
  }
  stream.put((encoder) => encoder.string(wordOk));
  await stream.flush("sending snapshots");
}
