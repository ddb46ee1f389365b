/**
 * @module How fetch reaches a daemon with a cluster key: through a unix socket of this process alone, behind which each
 * connection goes on over TLS with the proof. A connection that fails is answered in HTTP, with the error.
 */
import { join } from "node:path";
import { toJson } from "../control/schemas.ts";
import { asWalbError, type WalbError } from "../errors.ts";
import type { Address, Connection, Net } from "../platform/net.ts";
import { createClock } from "../platform/real/clock.ts";
import { createNet } from "../platform/real/net.ts";
import { makePrivateDirectory, removeAtExit } from "../platform/real/private-directory.ts";
import { readSecretFile } from "../platform/real/secret.ts";
import { parseKeys } from "../secure/key.ts";
import { connectSecurely } from "../secure/net.ts";
import { attach, hold } from "./pipe.ts";

const connectTimeoutMs = 10_000;

const sockets = new Map<string, Promise<string>>();
let directory: string | undefined;

/**
 * Path of the socket that leads to a daemon; the same for the life of the process.
 * @throws WalbError `usage` when the key file is not good.
 */
export function gatewayTo(address: Address & { kind: "tcp" }, keyFile: string): Promise<string> {
  const name = JSON.stringify([address.host, address.port, keyFile]);
  const known = sockets.get(name);
  if (known !== undefined) return known;
  const made = open(address, keyFile, `${sockets.size}.sock`);
  sockets.set(name, made);
  return made;
}

/** For commands that connect by themselves: TCP connections of a Net, with the key of a file. @throws WalbError `usage`. */
export function clientNet(keyFile: string): (net: Net) => Net {
  const keys = parseKeys(readSecretFile(keyFile), keyFile);
  const clock = createClock();
  return (net) => ({
    listen: net.listen,
    connect: (address, { timeoutMs }) =>
      address.kind === "unix"
        ? net.connect(address, { timeoutMs })
        : connectSecurely(net, address, { keys, clock }, timeoutMs),
  });
}

async function open(address: Address, keyFile: string, socketName: string): Promise<string> {
  const keys = parseKeys(readSecretFile(keyFile), keyFile);
  const [net, clock] = [createNet(), createClock()];
  const path = join(privateDirectory(), socketName);
  await net.listen({ kind: "unix", path }, (inside) => {
    const held = hold(inside, new Uint8Array(0));
    connectSecurely(net, address, { keys, clock }, connectTimeoutMs).then(
      (outside) => attach(inside, outside, held, { closed: () => undefined }),
      (error: unknown) => refuse(inside, asWalbError(error)),
    );
  });
  return path;
}

function privateDirectory(): string {
  if (directory !== undefined) return directory;
  directory = makePrivateDirectory();
  removeAtExit(directory);
  return directory;
}

function refuse(inside: Connection, error: WalbError): void {
  const body = toJson({ error });
  const head = `HTTP/1.1 502 Bad Gateway\r\ncontent-type: application/json\r\ncontent-length: ${Buffer.byteLength(body)}`;
  inside.write(Buffer.from(`${head}\r\nconnection: close\r\n\r\n${body}`));
  inside.setReader({ data: () => undefined, end: () => inside.close(), closed: () => undefined });
  inside.end();
}
