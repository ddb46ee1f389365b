/**
 * @module TLS as far as a simulation needs it: both ends show randomness behind the record header of a real handshake,
 * and get the same keying material out of it. Nothing is encrypted: nobody in there listens.
 */
import { createHash } from "node:crypto";
import { WalbError } from "../../errors.ts";
import type { Connection, TlsOptions, TlsSession } from "../../platform/net.ts";
import type { SimProcess } from "../process.ts";

/** A handshake record of TLS. */
const header = [0x16, 0x03, 0x01] as const;
const randomBytes = 32;
const helloBytes = header.length + randomBytes;

/** Shakes hands over a connection. @throws WalbError `protocol`, `unreachable`, `timed-out`. */
export function simulateTls(connection: Connection, options: TlsOptions, process: SimProcess): Promise<TlsSession> {
  return new Promise((resolve, reject) => {
    const own = new Uint8Array(helloBytes);
    own.set(header);
    for (let at = header.length; at < helloBytes; at += 1) own[at] = Math.floor(process.chance.fraction() * 256);
    let seen: Uint8Array = new Uint8Array(0);
    let isOver = false;
    const finish = (act: () => void): void => {
      if (isOver) return;
      isOver = true;
      act();
    };
    const fail = (error: WalbError): void =>
      finish(() => {
        connection.close();
        reject(error.at({ peer: connection.peer, step: "TLS handshake" }));
      });
    const lost = (): void =>
      fail(new WalbError("unreachable", { what: "the peer closed the connection in the TLS handshake" }));
    process.engine.schedule(options.timeoutMs, "TLS deadline", process, () =>
      fail(new WalbError("timed-out", { what: `TLS was not agreed on within ${options.timeoutMs} ms` })),
    );
    connection.setReader({
      data(chunk) {
        if (isOver) return;
        seen = Buffer.concat([seen, chunk]);
        if (seen[0] !== header[0]) {
          fail(new WalbError("protocol", { what: "TLS could not be agreed on: wrong version number" }));
          return;
        }
        if (seen.length < helloBytes) return;
        connection.pause();
        const peers = seen.subarray(header.length, helloBytes);
        connection.putBack(seen.subarray(helloBytes));
        const mine = own.subarray(header.length);
        const [client, server] = options.isServer ? [peers, mine] : [mine, peers];
        finish(() =>
          resolve({
            exportKeyingMaterial: (label, sizeBytes) =>
              new Uint8Array(
                createHash("sha256").update(label).update(client).update(server).digest().subarray(0, sizeBytes),
              ),
          }),
        );
      },
      end: lost,
      closed: lost,
    });
    connection.write(own);
  });
}
