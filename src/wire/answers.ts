/** @module Confirmation strings: how an end asks, answers and ends. */
import { serializerLimits } from "./serializer.ts";
import type { WireStream } from "./stream.ts";
import { type Answer, type Decision, decisionText, parseAnswer, wordAccept } from "./words.ts";

/** Reads the peer's confirmation, a refusal word, or its text. */
export async function readAnswer(
  stream: WireStream,
  step: string,
  confirmation: string = wordAccept,
  deadlineMs?: number,
): Promise<Answer> {
  const text = await stream.read(step, (decoder) => decoder.string("answer", serializerLimits.textBytes), deadlineMs);
  return parseAnswer(text, confirmation);
}

/** Tells the peer a decision. After an acceptance errors cannot be told as text any more. @returns true when accepted. */
export async function sendDecision(
  stream: WireStream,
  decision: Decision,
  confirmation: string = wordAccept,
): Promise<boolean> {
  stream.put((encoder) => encoder.string(decisionText(decision, confirmation)));
  stream.confirmationDue = false;
  await stream.flush("sending the answer");
  return decision.kind === "accept";
}
