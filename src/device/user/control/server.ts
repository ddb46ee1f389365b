/** @module The control socket of the device daemon: bounded requests in, answers and change events out. */
import type { z } from "zod";
import { asWalbError, WalbError } from "../../../errors.ts";
import type { Clock, Timer } from "../../../platform/clock.ts";
import type { Address, Connection, ConnectionReader, Listener, Net } from "../../../platform/net.ts";
import { LineParser, lineOf, parseLine } from "./lines.ts";
import {
  controlVersion,
  maxLineBytes,
  type Operation,
  type OperationResult,
  operations,
  requestSchema,
} from "./schema.ts";

/** Smallest distance of two events of one volume. */
const eventGapMs = 20;
const maxConnections = 256;
/** Requests of one connection that run at a time; more are left in the socket. */
const maxRunning = 64;

/** Parameters of an operation as a handler gets them: checked, defaults filled in. */
export type HandlerParams<O extends Operation> = z.output<(typeof operations)[O]["params"]>;

/** What performs the operations. Watching is the server's own business. */
export type ControlHandlers = {
  readonly [O in Exclude<Operation, "watch" | "unwatch">]: (params: HandlerParams<O>) => Promise<OperationResult<O>>;
};

/** What {@link openControlServer} needs. */
export interface ControlServerOptions {
  readonly net: Net;
  readonly clock: Clock;
  readonly address: Address;
  readonly nodeId: string;
  readonly handlers: ControlHandlers;
}

/** A running control server. */
export interface ControlServer {
  /** Tells the watchers of a volume, at most each 20 ms. */
  changed(name: string): void;
  /** Connections that watch a volume. */
  watchersOf(name: string): number;
  /** Stops listening, lets running requests finish, closes all connections. */
  close(): Promise<void>;
}

/** @throws WalbError `port-in-use`. */
export async function openControlServer(options: ControlServerOptions): Promise<ControlServer> {
  const server = new Server(options);
  await server.listen();
  return server;
}

class Server implements ControlServer {
  readonly sessions = new Set<Session>();
  private listener: Listener | undefined;
  private isClosing = false;
  /** Volumes told less than the gap ago → whether to tell again when it is over. */
  private readonly recent = new Map<string, { again: boolean; timer: Timer }>();

  constructor(readonly options: ControlServerOptions) {}

  async listen(): Promise<void> {
    this.listener = await this.options.net.listen(this.options.address, (connection) => {
      if (this.isClosing || this.sessions.size >= maxConnections) {
        connection.close();
        return;
      }
      const session = new Session(this, connection);
      this.sessions.add(session);
      session.start();
    });
  }

  changed(name: string): void {
    if (this.isClosing) return;
    const recent = this.recent.get(name);
    if (recent !== undefined) {
      recent.again = true;
      return;
    }
    for (const session of this.sessions) session.tell(name);
    const timer = this.options.clock.timer(
      eventGapMs,
      () => {
        const again = this.recent.get(name)?.again ?? false;
        this.recent.delete(name);
        if (again) this.changed(name);
      },
      { unref: true },
    );
    this.recent.set(name, { again: false, timer });
  }

  watchersOf(name: string): number {
    let count = 0;
    for (const session of this.sessions) if (session.watched.has(name)) count++;
    return count;
  }

  async close(): Promise<void> {
    this.isClosing = true;
    await this.listener?.close();
    for (const { timer } of this.recent.values()) timer.cancel();
    this.recent.clear();
    await Promise.all([...this.sessions].map((session) => session.finish()));
  }
}

class Session implements ConnectionReader {
  readonly watched = new Set<string>();
  private readonly lines = new LineParser(maxLineBytes);
  private readonly waiting: string[] = [];
  private readonly running = new Set<Promise<void>>();
  /** Events that the peer was too slow for. */
  private readonly held = new Set<string>();
  private isFull = false;
  private isFinishing = false;

  constructor(
    private readonly server: Server,
    private readonly connection: Connection,
  ) {}

  /** Greets the client and reads. */
  start(): void {
    this.write({ walbDevice: controlVersion, nodeId: this.server.options.nodeId });
    this.connection.setReader(this);
    this.connection.resume();
  }

  tell(name: string): void {
    if (!this.watched.has(name)) return;
    if (this.isFull) this.held.add(name);
    else this.write({ event: "changed", name });
  }

  data(chunk: Uint8Array): void {
    if (this.isFinishing) return;
    const lines = this.lines.push(chunk);
    if (lines === undefined) {
      const what = `a control request is longer than ${maxLineBytes} bytes`;
      this.write({ id: null, error: new WalbError("protocol", { what, where: { peer: this.connection.peer } }) });
      void this.finish();
      return;
    }
    this.waiting.push(...lines);
    this.pump();
  }

  end(): void {
    void this.finish();
  }

  closed(): void {
    this.drop();
  }

  /** Answers what runs, then closes. */
  async finish(): Promise<void> {
    if (this.isFinishing) return;
    this.isFinishing = true;
    this.waiting.length = 0;
    await Promise.all(this.running);
    this.connection.end();
    const { clock } = this.server.options;
    // The peer may never read the rest: it has a second.
    const timer = clock.timer(1000, () => this.connection.close(), { unref: true });
    await this.connection.drained().catch(() => undefined);
    timer.cancel();
    this.connection.close();
    this.drop();
  }

  private drop(): void {
    this.waiting.length = 0;
    this.watched.clear();
    this.server.sessions.delete(this);
  }

  private pump(): void {
    while (this.running.size < maxRunning && !this.isFull && !this.isFinishing) {
      const line = this.waiting.shift();
      if (line === undefined) break;
      const run: Promise<void> = this.request(line).finally(() => {
        this.running.delete(run);
        this.pump();
      });
      this.running.add(run);
    }
    if (this.connection.isClosed) return;
    if (this.waiting.length > 0 || this.isFull) this.connection.pause();
    else this.connection.resume();
  }

  private async request(line: string): Promise<void> {
    let id: number | null = null;
    try {
      const request = requestSchema.safeParse(parseLine(line));
      if (!request.success) {
        throw new WalbError("protocol", {
          what: "a control request is not {id, op, params}",
          where: { peer: this.connection.peer },
          hint: 'example: {"id": 1, "op": "show", "params": {"name": "vol0"}}',
        });
      }
      id = request.data.id;
      this.write({ id, ok: await this.perform(request.data.op, request.data.params) });
    } catch (error) {
      this.write({ id, error: asWalbError(error) });
    }
  }

  private async perform(op: string, raw: unknown): Promise<unknown> {
    if (!Object.hasOwn(operations, op)) {
      const hint = `one of: ${Object.keys(operations).join(", ")}`;
      throw new WalbError("unsupported", { what: `there is no operation ${JSON.stringify(op)}`, hint });
    }
    const operation = op as Operation;
    const parsed = operations[operation].params.safeParse(raw ?? {});
    if (!parsed.success) throw badParameter(parsed.error);
    if (operation === "watch" || operation === "unwatch") {
      const { name } = parsed.data as HandlerParams<"watch">;
      return await this.watch(operation, name);
    }
    // The schema of the same operation has just checked the parameters.
    const handler = this.server.options.handlers[operation] as (params: unknown) => Promise<unknown>;
    return await handler(parsed.data);
  }

  private async watch(operation: "watch" | "unwatch", name: string): Promise<object> {
    if (operation === "unwatch") {
      this.watched.delete(name);
      return {};
    }
    // Refuses unknown volumes; one that failed may be watched, it may come back.
    await this.server.options.handlers.show({ name });
    if (!this.connection.isClosed) this.watched.add(name);
    return {};
  }

  private write(value: unknown): void {
    if (this.connection.write(lineOf(value)) || this.isFull) return;
    this.isFull = true;
    this.connection.drained().then(
      () => {
        this.isFull = false;
        const held = [...this.held];
        this.held.clear();
        for (const name of held) this.tell(name);
        this.pump();
      },
      // Of a socket that is not read, nobody else may tell.
      () => {
        this.connection.close();
        this.drop();
      },
    );
  }
}

/** The first thing wrong with parameters, with the name of the field. */
export function badParameter(error: z.ZodError): WalbError {
  const issue = error.issues[0];
  const field = issue?.path.map(String).join(".") ?? "";
  return new WalbError("bad-parameter", {
    what: `${field === "" ? "parameters: " : ""}${issue?.message ?? "not valid"}`,
    ...(field === "" ? {} : { where: { field } }),
  });
}
