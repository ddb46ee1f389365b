/** @module Two ends of one real connection. */
import { join } from "node:path";
import type { Address, Connection, Net } from "../../src/platform/net.ts";
import { withTemporaryDirectory } from "./temporary.ts";

/** Connects over TCP on loopback or a unix socket; all is closed when `use` has ended. */
export async function withSocketPair(
  net: Net,
  kind: string,
  use: (client: Connection, server: Connection) => Promise<void>,
): Promise<void> {
  await withTemporaryDirectory(async (directory) => {
    const address: Address =
      kind === "unix" ? { kind: "unix", path: join(directory, "socket") } : { kind: "tcp", host: "127.0.0.1", port: 0 };
    const accepted = Promise.withResolvers<Connection>();
    const listener = await net.listen(address, accepted.resolve);
    const client = await net.connect(listener.address, { timeoutMs: 5000 });
    const server = await accepted.promise;
    try {
      await use(client, server);
    } finally {
      client.close();
      server.close();
      await listener.close();
    }
  });
}
