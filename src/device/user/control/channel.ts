/** @module One connection to a device daemon's control socket: calls with deadlines, and change events. */
import { asWalbError, WalbError } from "../../../errors.ts";
import type { Timer } from "../../../platform/clock.ts";
import type { Connection, ConnectionReader } from "../../../platform/net.ts";
import type { Platform } from "../../../platform/platform.ts";
import { LineParser, lineOf, parseLine } from "./lines.ts";
import {
  controlVersion,
  eventSchema,
  helloSchema,
  maxLineBytes,
  type Operation,
  type OperationParams,
  type OperationResult,
  operations,
  replySchema,
} from "./schema.ts";

const connectMs = 5_000;
const callMs = 30_000;
/** For operations that wait for stores to become durable, or for redo. */
const slowCallMs = 600_000;
const slowOperations: ReadonlySet<Operation> = new Set([
  "create",
  "delete",
  "start",
  "stop",
  "resize",
  "checkpoint",
  "resetLog",
  "freeze",
  "setOldest",
]);

/** The way out when no daemon answers. */
export const daemonHint = "start it: walb device --data DIR";

interface Call {
  readonly operation: Operation;
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: WalbError) => void;
  readonly timer: Timer;
}

/** What a channel tells its owner. */
export interface ChannelEvents {
  changed(name: string): void;
  /** The connection is gone; every call has failed with `unreachable`. Called once. */
  closed(): void;
}

/** An open connection to a daemon. */
export class ControlChannel implements ConnectionReader {
  nodeId = "";
  isClosed = false;
  private readonly lines = new LineParser(maxLineBytes);
  private readonly calls = new Map<number, Call>();
  private nextId = 1;
  private greeting: { resolve: () => void; reject: (error: WalbError) => void } | undefined;
  private why = "the connection was closed";

  private constructor(
    private readonly platform: Platform,
    private readonly socketPath: string,
    private readonly connection: Connection,
    private readonly events: ChannelEvents,
  ) {}

  /** @throws WalbError `unreachable`, or `protocol` when the daemon speaks another version. */
  static async open(platform: Platform, socketPath: string, events: ChannelEvents): Promise<ControlChannel> {
    const connection = await platform.net.connect({ kind: "unix", path: socketPath }, { timeoutMs: connectMs });
    const channel = new ControlChannel(platform, socketPath, connection, events);
    await channel.greeted();
    return channel;
  }

  /** Performs an operation. @throws WalbError the daemon's error, `unreachable`, or `timed-out`. */
  async call<O extends Operation>(operation: O, params: OperationParams<O>): Promise<OperationResult<O>> {
    if (this.isClosed) throw this.unreachable();
    const id = this.nextId++;
    const answer = await new Promise<unknown>((resolve, reject) => {
      const delayMs = slowOperations.has(operation) ? slowCallMs : callMs;
      const timer = this.platform.clock.timer(delayMs, () => {
        this.calls.delete(id);
        reject(
          new WalbError("timed-out", {
            what: `the device daemon has not answered ${operation} within ${delayMs / 1000} s`,
            where: { peer: this.socketPath, step: operation },
            hint: "it may still be at work: look at walb device list",
          }),
        );
      });
      this.calls.set(id, { operation, resolve, reject, timer });
      this.connection.write(lineOf({ id, op: operation, params }));
    });
    const parsed = operations[operation].result.safeParse(answer);
    if (!parsed.success) throw this.protocolError(`an answer to ${operation} of another form`);
    return parsed.data as OperationResult<O>;
  }

  close(): void {
    this.connection.close();
    this.closed(undefined);
  }

  data(chunk: Uint8Array): void {
    const lines = this.lines.push(chunk);
    if (lines === undefined) {
      this.broken("an endless line");
      return;
    }
    for (const line of lines) if (!this.isClosed) this.line(parseLine(line));
  }

  end(): void {
    this.why = "the daemon closed the connection";
    this.close();
  }

  closed(error: Error | undefined): void {
    if (this.isClosed) return;
    this.isClosed = true;
    if (error !== undefined) this.why = error.message;
    this.greeting?.reject(this.unreachable());
    for (const call of this.calls.values()) {
      call.timer.cancel();
      call.reject(this.unreachable());
    }
    this.calls.clear();
    this.events.closed();
  }

  private async greeted(): Promise<void> {
    const timer = this.platform.clock.timer(connectMs, () => {
      this.why = "no greeting came";
      this.close();
    });
    try {
      await new Promise<void>((resolve, reject) => {
        this.greeting = { resolve, reject };
        this.connection.setReader(this);
        this.connection.resume();
      });
    } finally {
      timer.cancel();
      this.greeting = undefined;
    }
  }

  private line(value: unknown): void {
    if (this.greeting !== undefined && this.nodeId === "") {
      const hello = helloSchema.safeParse(value);
      if (!hello.success || hello.data.walbDevice !== controlVersion) {
        const version = hello.success ? `version ${hello.data.walbDevice}` : "something else";
        this.greeting.reject(this.protocolError(`${version} of the control protocol, not ${controlVersion}`));
        this.close();
        return;
      }
      this.nodeId = hello.data.nodeId;
      this.greeting.resolve();
      return;
    }
    const event = eventSchema.safeParse(value);
    if (event.success) {
      this.events.changed(event.data.name);
      return;
    }
    const reply = replySchema.safeParse(value);
    if (!reply.success || reply.data.id === null) {
      this.broken("neither an answer nor an event");
      return;
    }
    const call = this.calls.get(reply.data.id);
    // An answer to a call that timed out comes late: nobody waits for it.
    if (call === undefined) return;
    this.calls.delete(reply.data.id);
    call.timer.cancel();
    if ("error" in reply.data) call.reject(remoteError(reply.data.error));
    else call.resolve(reply.data.ok);
  }

  private broken(what: string): void {
    this.why = `the daemon sent ${what}`;
    this.close();
  }

  private unreachable(): WalbError {
    return new WalbError("unreachable", {
      what: `the device daemon is not reachable: ${this.why}`,
      where: { peer: this.socketPath },
      hint: daemonHint,
    });
  }

  private protocolError(what: string): WalbError {
    return new WalbError("protocol", {
      what: `the device daemon speaks ${what}`,
      where: { peer: this.socketPath },
      hint: "use the same version of walb for the daemon and its clients",
    });
  }
}

function remoteError(error: Extract<typeof replySchema._zod.output, { error: unknown }>["error"]): WalbError {
  const { code, what, where, hint, cause } = error;
  const place = Object.fromEntries(Object.entries(where).filter(([, value]) => value !== undefined));
  return new WalbError(code, {
    what,
    where: place,
    ...(hint === undefined ? {} : { hint }),
    ...(cause === undefined ? {} : { cause }),
  });
}

/** The error of a socket that nobody serves, in words for people. */
export function daemonUnreachable(error: unknown, socketPath: string): WalbError {
  const known = asWalbError(error, { peer: socketPath });
  if (known.code !== "unreachable" || known.hint === daemonHint) return known;
  return new WalbError("unreachable", {
    what: `no device daemon answers: ${known.what}`,
    where: { peer: socketPath },
    hint: daemonHint,
    cause: known.cause,
  });
}
