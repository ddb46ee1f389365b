/**
 * @module walb-labels1: an archive tells another one, of the same line of backups, what people said about snapshots. Not
 * of the original, whose archives answer that they do not know it.
 *
 * ```
 * C> str volume, raw[16] archiveUuid, v64 count, count × ( v64 gid, str label, bool isProtected )
 * S> "ok" | text
 * ```
 * An empty label is none.
 */
import { readAnswer, sendDecision } from "./answers.ts";
import { badField } from "./serializer.ts";
import type { WireStream } from "./stream.ts";
import { type Answer, type Decision, wordOk } from "./words.ts";

export const labelsProtocol = "walb-labels1";
/** Most labels of a message. */
export const labelsMax = 100_000;
const labelBytesMax = 1024;

/** What somebody said about a snapshot. */
export interface WireLabel {
  readonly gid: bigint;
  readonly label: string | undefined;
  readonly isProtected: boolean;
}

/** The labels of a volume. */
export interface LabelMessage {
  readonly volume: string;
  readonly archiveUuid: string;
  readonly labels: readonly WireLabel[];
}

/** Runs the sender's end. */
export async function runLabels(stream: WireStream, { volume, archiveUuid, labels }: LabelMessage): Promise<Answer> {
  stream.put((encoder) => encoder.string(volume).uuid(archiveUuid).u64(labels.length));
  for (const { gid, label, isProtected } of labels) {
    stream.put((encoder) =>
      encoder
        .u64(gid)
        .string(label ?? "")
        .bool(isProtected),
    );
    if (stream.isFlushDue) await stream.flush("sending labels");
  }
  return readAnswer(stream, "the answer to the labels", wordOk, stream.commitDeadlineMs);
}

/** Serves the receiver's end. */
export async function serveLabels(
  stream: WireStream,
  take: (message: LabelMessage) => Promise<Decision>,
): Promise<void> {
  const { volume, archiveUuid, count } = await stream.read("the labels", (decoder) => ({
    volume: decoder.string("volId", 1024),
    archiveUuid: decoder.uuid(),
    count: decoder.size("count"),
  }));
  if (count > labelsMax) throw badField("count", `is ${count}, above ${labelsMax}`);
  const labels: WireLabel[] = [];
  while (labels.length < count) {
    const label = await stream.read("a label", (decoder) => ({
      gid: decoder.u64(),
      text: decoder.string("label", labelBytesMax),
      isProtected: decoder.bool("isProtected"),
    }));
    const { gid, text, isProtected } = label;
    labels.push({ gid, label: text === "" ? undefined : text, isProtected });
  }
  await sendDecision(stream, await take({ volume, archiveUuid, labels }), wordOk);
}
