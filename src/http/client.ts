/**
 * @module The typed client of the HTTP API, derived from the command registries. Used by the command line only: it works
 * with fetch and real time.
 */
import { z } from "zod";
import type { CallNames, CallParams, CallResult, Commands, JobNames } from "../control/command.ts";
import { type ErrorReport, errorFromReport, errorReportSchema } from "../control/error.ts";
import { type JobInfo, jobSchema } from "../control/job.ts";
import { parseWith, toJson } from "../control/schemas.ts";
import { WalbError } from "../errors.ts";

/** Deadline of a request when nobody gave one: longer than a stop may take. */
/** Of a call that says no other. */
export const defaultTimeoutMs = 90_000;
/** A silent event stream is checked after this time. */
const quietMs = 20_000;
/** How often in a row a job's events may break off before we give up. */
const breaksMax = 10;

/** A daemon to call. */
export interface ServerReference {
  /** As people know it: `a0`, or the address. */
  readonly name: string;
  /** `host:port`. */
  readonly address: string;
  /** For hints. */
  readonly role?: string;
  /** File with the cluster key it is reached with. */
  readonly clusterKey?: string;
}

export interface CallOptions {
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
}

export interface JobOptions extends CallOptions {
  /** Hears every change, the first at once. */
  readonly onProgress?: (job: JobInfo) => void;
}

const answerSchema = z.union([
  z.object({ ok: z.unknown() }),
  z.object({ job: jobSchema }),
  z.object({ error: errorReportSchema }),
]);

/** Calls the commands of one daemon. Errors are WalbErrors that name it: its own, `unreachable`, `timed-out`, `protocol`. */
export class Client<C extends Commands> {
  readonly server: ServerReference;
  readonly #commands: C;

  constructor(server: ServerReference, commands: C) {
    this.server = server;
    this.#commands = commands;
  }

  /** Runs a command that answers at once. */
  async call<Name extends CallNames<C>>(
    name: Name,
    params: CallParams<C[Name]>,
    options: CallOptions = {},
  ): Promise<CallResult<C[Name]>> {
    const answer = await this.#request("POST", `/api/${name}`, params, options);
    if (!("ok" in answer)) throw this.#notWalb(`an answer to ${name} without a result`);
    return parseWith(this.#commands[name]!.result, answer.ok, `answer to ${name}`, "protocol") as CallResult<C[Name]>;
  }

  /** Starts a job; it goes on when we are gone. */
  async start<Name extends JobNames<C>>(
    name: Name,
    params: CallParams<C[Name]>,
    options: CallOptions = {},
  ): Promise<JobInfo> {
    const answer = await this.#request("POST", `/api/${name}`, params, options);
    if (!("job" in answer)) throw this.#notWalb(`an answer to ${name} without a job`);
    return answer.job;
  }

  /** Starts a job and follows it to its end. @throws what the job failed with, `timed-out` while it goes on. */
  async run<Name extends JobNames<C>>(
    name: Name,
    params: CallParams<C[Name]>,
    options: JobOptions = {},
  ): Promise<CallResult<C[Name]>> {
    const job = await this.start(name, params, options.signal === undefined ? {} : { signal: options.signal });
    return this.follow(name, job, options);
  }

  /** Follows a job to its end. */
  async follow<Name extends JobNames<C>>(
    name: Name,
    job: JobInfo,
    options: JobOptions = {},
  ): Promise<CallResult<C[Name]>> {
    const signals = options.signal === undefined ? [] : [options.signal];
    if (options.timeoutMs !== undefined) signals.push(AbortSignal.timeout(options.timeoutMs));
    const signal = AbortSignal.any(signals);
    options.onProgress?.(job);
    let last = job;
    let breaks = 0;
    while (last.state === "running") {
      try {
        for await (const next of this.#events(job.id, signal)) {
          last = next;
          breaks = 0;
          options.onProgress?.(next);
        }
        if (last.state === "running") throw new WalbError("unreachable", { what: "the events of the job broke off" });
      } catch (error) {
        if (signal.aborted) throw this.#stillRunning(last, options);
        if (error instanceof WalbError && error.code === "not-found") throw this.#lost(last, error);
        breaks += 1;
        if (!(error instanceof WalbError && error.code === "unreachable") || breaks > breaksMax) throw error;
        await Bun.sleep(Math.min(250 * 2 ** (breaks - 1), 5000));
      }
    }
    if (last.error !== undefined) throw this.#reported(last.error);
    return parseWith(this.#commands[name]!.result, last.result, `result of ${name}`, "protocol") as CallResult<C[Name]>;
  }

  /** All jobs the daemon knows. */
  async jobs(options: CallOptions = {}): Promise<JobInfo[]> {
    const answer = await this.#request("GET", "/api/jobs", undefined, options);
    const schema = z.object({ jobs: z.array(jobSchema) });
    return parseWith(schema, "ok" in answer ? answer.ok : undefined, "jobs", "protocol").jobs;
  }

  /** Cancels a job and waits until it has ended. */
  async cancel(id: string, options: CallOptions = {}): Promise<JobInfo> {
    const answer = await this.#request("DELETE", `/api/jobs/${encodeURIComponent(id)}`, undefined, options);
    return parseWith(jobSchema, "ok" in answer ? answer.ok : undefined, "job", "protocol");
  }

  async #request(
    method: string,
    path: string,
    body: unknown,
    options: CallOptions,
  ): Promise<{ ok?: unknown } | { job: JobInfo }> {
    const timeoutMs = options.timeoutMs ?? defaultTimeoutMs;
    const timeout = AbortSignal.timeout(timeoutMs);
    const signal = options.signal === undefined ? timeout : AbortSignal.any([timeout, options.signal]);
    const json = body === undefined ? {} : { body: toJson(body), headers: { "content-type": "application/json" } };
    const way = await this.#way();
    let text: string;
    try {
      // Our own limit counts: Bun's would end what waits for longer than five minutes.
      // A connection of its own: one kept from before may be closed by the daemon while we send.
      const how = { timeout: false, keepalive: false } as const;
      const response = await fetch(this.#url(path), { method, signal, ...how, ...json, ...way });
      text = await response.text();
    } catch (cause) {
      if (options.signal?.aborted === true) throw new WalbError("cancelled", { what: "interrupted" });
      if (!timeout.aborted) throw this.#unreachable(cause);
      throw new WalbError("timed-out", {
        what: `no answer within ${timeoutMs / 1000} s; what was asked may still happen`,
        where: { host: this.server.name, peer: this.server.address },
        hint: "look with: walb status; or wait longer with --timeout",
      });
    }
    const answer = answerSchema.safeParse(parseJson(text));
    if (!answer.success) throw this.#notWalb("something that is no answer of walb");
    if ("error" in answer.data) throw this.#reported(answer.data.error);
    return answer.data;
  }

  async *#events(id: string, signal: AbortSignal): AsyncGenerator<JobInfo> {
    const path = `/api/jobs/${encodeURIComponent(id)}`;
    const way = await this.#way();
    let response: Response;
    try {
      response = await fetch(this.#url(`${path}/events`), { signal, ...way });
    } catch (cause) {
      throw this.#unreachable(cause);
    }
    if (!response.ok || response.body === null) {
      const answer = answerSchema.safeParse(parseJson(await response.text()));
      if (!answer.success || !("error" in answer.data)) throw this.#notWalb("no events of the job");
      throw this.#reported(answer.data.error);
    }
    const reader = response.body.getReader();
    const decoder = new TextDecoder();
    let text = "";
    try {
      while (true) {
        const chunk = await this.#readChunk(reader, signal);
        if (chunk === undefined) return;
        const parts = (text + decoder.decode(chunk, { stream: true })).split("\n\n");
        text = parts.pop() ?? "";
        for (const part of parts) {
          yield parseWith(jobSchema, parseJson(part.replace(/^data: ?/, "")), "event of a job", "protocol");
        }
      }
    } finally {
      await reader.cancel().catch(() => undefined);
    }
  }

  /** The next chunk; while none comes, makes sure now and then that the daemon is there. */
  async #readChunk(
    reader: { read(): Promise<{ done: boolean; value?: Uint8Array | undefined }> },
    signal: AbortSignal,
  ): Promise<Uint8Array | undefined> {
    const next = reader.read().then(
      (result) => ({ value: result.done ? undefined : result.value }),
      (cause: unknown) => ({ error: this.#unreachable(cause) }),
    );
    while (true) {
      const quiet = timer(quietMs);
      const got = await Promise.race([next, quiet.fired]);
      quiet.cancel();
      if (got === "quiet") await this.#request("GET", "/health", undefined, { timeoutMs: quietMs, signal });
      else if ("error" in got) throw got.error;
      else return got.value;
    }
  }

  /** The daemon has forgotten a job that we started: it was restarted. */
  #lost(job: JobInfo, cause: WalbError): WalbError {
    return new WalbError("not-found", {
      what: `the ${job.command} was lost: the daemon was restarted while it ran`,
      where: { host: this.server.name, ...(job.volume === undefined ? {} : { volume: job.volume }) },
      hint: `it was not completed and does not go on: repeat the command when you know from the daemon's log why it ended`,
      cause,
    });
  }

  #stillRunning(job: JobInfo, options: JobOptions): WalbError {
    const where = { host: this.server.name };
    if (options.signal?.aborted === true) return new WalbError("cancelled", { what: "interrupted", where });
    return new WalbError("timed-out", {
      what: `${job.command} has not ended within ${(options.timeoutMs ?? 0) / 1000} s; it goes on as job ${job.id}`,
      where,
      hint: "see how far it is with: walb status",
    });
  }

  /** How fetch gets to the daemon. @throws WalbError `usage` when the key file is not good. */
  async #way(): Promise<{ readonly unix?: string }> {
    const { address, clusterKey } = this.server;
    if (clusterKey === undefined) return {};
    const { gatewayTo } = await import("./gateway.ts");
    const colon = address.lastIndexOf(":");
    const host = address.slice(0, colon).replace(/^\[(.*)\]$/, "$1");
    return { unix: await gatewayTo({ kind: "tcp", host, port: Number(address.slice(colon + 1)) }, clusterKey) };
  }

  /** What the daemon says went wrong. Commands in its hint name it as the caller does, not by its node id. */
  #reported(report: ErrorReport): WalbError {
    const nodeId = report.where.host;
    const hint = report.hint?.replace(/(?<= --server )[^\s;,:)]+/g, (name) =>
      name === nodeId ? this.server.name : name,
    );
    return errorFromReport({ ...report, ...(hint === undefined ? {} : { hint }) }).at({ host: this.server.name });
  }

  #url(path: string): string {
    return `http://${this.server.address}${path}`;
  }

  #unreachable(cause: unknown): WalbError {
    const { name, address, role } = this.server;
    if (cause instanceof WalbError && cause.code === "cancelled") return cause;
    const isRefused = cause instanceof Error && "code" in cause && /refused/i.test(String(cause.code));
    return new WalbError("unreachable", {
      what: `cannot reach ${name === address ? "the server" : `server ${name}`} at ${address}`,
      hint: `is ${role === undefined ? "the daemon" : `walb ${role}`} running on that host? Look with: curl http://${address}/health`,
      cause: isRefused ? "connection refused" : cause,
    });
  }

  #notWalb(what: string): WalbError {
    return new WalbError("protocol", {
      what: `it sent ${what}`,
      where: { peer: this.server.address },
      hint: "is this the address of a walb daemon of this version?",
    });
  }
}

function timer(delayMs: number): { readonly fired: Promise<"quiet">; cancel(): void } {
  const { promise, resolve } = Promise.withResolvers<"quiet">();
  const id = setTimeout(() => resolve("quiet"), delayMs);
  return { fired: promise, cancel: () => clearTimeout(id) };
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}
