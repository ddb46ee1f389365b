/**
 * @module How a command of the original is bound to ours: its name, what its parameters mean, what it answers, and in
 * which words it is refused. The tables are in `storage.ts`, `proxy.ts`, `archive.ts`; `serve.ts` runs them.
 */
import { asWalbError, WalbError } from "../../errors.ts";
import type { Clock } from "../../platform/clock.ts";
import type { GetKind, GetRequest, GetRole, GetValueOf } from "../../wire/get.ts";
import type { Encoder } from "../../wire/serializer.ts";
import type { WireStream } from "../../wire/stream.ts";
import { PeerError } from "../../wire/words.ts";
import type { Control } from "../control.ts";
import { errorFromReport } from "../error.ts";
import type { JobInfo } from "../job.ts";
import type { Logger } from "../logger.ts";
import { type Guard, guardText, type Situation } from "./refusal.ts";

/** What a role gives the binding besides its commands. */
export interface LegacyRole {
  readonly role: GetRole;
  /** @throws WalbError for what is not a volume name. */
  situation(volume: string): Situation;
  /** Of a storage: where a volume's device is. */
  devicePath?(volume: string): string | undefined;
  /** Lines of `status`, of one volume or of all. */
  status(volume: string | undefined): Promise<string[]>;
  get(request: GetRequest): Promise<GetValueOf<GetKind>>;
}

/** What a command's binding works with. */
export interface LegacyCall {
  /** Never empty ones. */
  readonly parameters: readonly string[];
  readonly stream: WireStream;
  readonly role: LegacyRole;
  readonly control: Control;
  readonly clock: Clock;
  readonly log: Logger;
}

/** What is answered. */
export type LegacyReply =
  /** "ok", and what `put` appends. */
  | { readonly kind: "ok"; readonly put?: (encoder: Encoder) => void }
  /** "accept"; the work goes on whatever the peer does. */
  | { readonly kind: "accept"; readonly work?: () => Promise<unknown> }
  /** The command answered on its stream itself. */
  | { readonly kind: "served" };

/** A command of the original. */
export type LegacyCommand = (call: LegacyCall) => Promise<LegacyReply>;

/** By the original's names. */
export type LegacyCommands = Readonly<Record<string, LegacyCommand>>;

export const ok: LegacyReply = { kind: "ok" };

/** Runs one of our commands that is no job. A refusal gets the original's words where its guard says why. */
export async function callCommand(
  call: LegacyCall,
  guard: Guard,
  name: string,
  params: Readonly<Record<string, unknown>>,
  explain: (error: WalbError) => string | undefined = () => undefined,
): Promise<unknown> {
  try {
    const outcome = await call.control.call(name, params);
    if (outcome.kind === "job") throw new WalbError("internal", { what: `${name} is a job` });
    return outcome.result;
  } catch (error) {
    throw explained(call, guard, params.volume, asWalbError(error), explain);
  }
}

/** Starts one of our jobs and waits until nothing can refuse it any more. */
export async function startJob(
  call: LegacyCall,
  guard: Guard,
  name: string,
  params: Readonly<Record<string, unknown>>,
  explain: (error: WalbError) => string | undefined = () => undefined,
): Promise<LegacyReply> {
  let error: WalbError;
  try {
    const outcome = await call.control.call(name, params);
    if (outcome.kind === "result") throw new WalbError("internal", { what: `${name} is no job` });
    const job = await call.control.untilAccepted(outcome.job.id);
    if (job.state === "running" || job.state === "done") return { kind: "accept" };
    error = errorOf(job);
  } catch (thrown) {
    error = asWalbError(thrown);
  }
  throw explained(call, guard, params.volume, error, explain);
}

function explained(
  { role }: LegacyCall,
  guard: Guard,
  volume: unknown,
  error: WalbError,
  explain: (error: WalbError) => string | undefined,
): WalbError {
  if (error instanceof PeerError) return error;
  const text =
    (typeof volume === "string" ? guardText(guard, volume, role.situation(volume)) : undefined) ?? explain(error);
  return text === undefined ? error : new PeerError(text, error);
}

function errorOf({ command, error }: JobInfo): WalbError {
  return error === undefined
    ? new WalbError("cancelled", { what: `${command} was cancelled` })
    : errorFromReport(error);
}
