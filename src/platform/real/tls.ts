/**
 * @module TLS 1.3 over a socket that is open already: after a few plain bytes, or from the first on.
 *
 * Bun tells of a handshake that it is good or not, with an error in both cases when there is no trusted certificate. What
 * counts is whether the session exists, and, where certificates are asked for, whether the peer's was accepted.
 */
import { WalbError } from "../../errors.ts";
import type { TlsOptions, TlsSession } from "../net.ts";
import type { RawSocket, SocketData } from "./connection.ts";

/** TLS 1.3 as a number of the protocol. */
const tls13 = 0x0304;

type TlsHandler = Bun.SocketHandler<SocketData, "uint8array">;

/** What Bun's types do not know of `upgradeTLS`: the server's side, and bytes of the handshake that were read already. */
interface UpgradeOptions extends Bun.TLSUpgradeOptions<SocketData> {
  readonly isServer: boolean;
  readonly initialData?: Uint8Array;
}

/** Bun's types leave its result out. */
interface Exporting {
  exportKeyingMaterial(sizeBytes: number, label: string, context: Uint8Array): Uint8Array;
}

/** A session and its socket, which replaces the one below. */
export interface Upgraded {
  readonly socket: RawSocket;
  readonly session: TlsSession;
}

/**
 * Shakes hands. The socket may be paused before.
 * @param started gets the TLS socket as soon as it exists, so that it can be closed.
 * @throws WalbError `protocol`, `unreachable`, `timed-out`. The caller closes the socket then.
 */
export function upgradeToTls(
  below: RawSocket,
  handler: TlsHandler,
  options: TlsOptions,
  initialData: Uint8Array,
  started: (socket: RawSocket) => void,
): Promise<Upgraded> {
  return new Promise((resolve, reject) => {
    const timeout = setTimeout(() => {
      reject(new WalbError("timed-out", { what: `TLS was not agreed on within ${options.timeoutMs} ms` }));
    }, options.timeoutMs);
    const lost = (error: Error | undefined): void => {
      clearTimeout(timeout);
      const cause = error === undefined ? {} : { cause: error };
      reject(new WalbError("unreachable", { what: "the peer closed the connection in the TLS handshake", ...cause }));
    };
    const { certificate, peerAuthoritiesPem } = options;
    const upgrade: UpgradeOptions = {
      isServer: options.isServer,
      ...(initialData.length === 0 ? {} : { initialData }),
      data: { ...below.data },
      tls: {
        minVersion: tls13,
        rejectUnauthorized: peerAuthoritiesPem !== undefined,
        requestCert: peerAuthoritiesPem !== undefined || !options.isServer,
        ...(certificate === undefined ? {} : { cert: certificate.certificatePem, key: certificate.keyPem }),
        ...(peerAuthoritiesPem === undefined ? {} : { ca: peerAuthoritiesPem }),
      } as Bun.TLSOptions,
      socket: {
        ...handler,
        handshake(socket, isGood, error) {
          clearTimeout(timeout);
          const session = sessionOf(socket);
          const isAccepted =
            peerAuthoritiesPem === undefined ? codeOf(error) !== "EPROTO" : isGood && socket.authorized;
          if (session !== undefined && isAccepted) resolve({ socket: socket as RawSocket, session });
          else reject(failure(error, session !== undefined));
        },
        close(socket, error) {
          lost(error);
          handler.close?.(socket as never, error);
        },
        error(socket, error) {
          lost(error);
          handler.error?.(socket as never, error);
        },
      } as Bun.SocketHandler<SocketData>,
    };
    const [, socket] = below.upgradeTLS(upgrade);
    started(socket as RawSocket);
    socket.resume();
  });
}

/** The session, when the handshake went far enough to make its keys. */
function sessionOf(socket: Bun.Socket<SocketData>): TlsSession | undefined {
  const exporting = socket as unknown as Exporting;
  const exportKeyingMaterial = (label: string, sizeBytes: number): Uint8Array =>
    new Uint8Array(exporting.exportKeyingMaterial(sizeBytes, label, Buffer.alloc(0)));
  try {
    exportKeyingMaterial("EXPORTER-probe", 32);
    return { exportKeyingMaterial };
  } catch {
    return undefined;
  }
}

function failure(error: Error | null | undefined, hasSession: boolean): WalbError {
  const reason = error?.message.split(":").at(-1) ?? "";
  if (codeOf(error) === "ECONNRESET") {
    return new WalbError("unreachable", { what: "the peer closed the connection in the TLS handshake" });
  }
  if (hasSession) {
    return new WalbError("protocol", {
      what: `the peer's certificate was not accepted: ${reason.toLowerCase().replaceAll("_", " ")}`,
    });
  }
  return new WalbError("protocol", {
    what: `TLS could not be agreed on: ${reason.toLowerCase().replaceAll("_", " ")}`,
  });
}

function codeOf(error: Error | null | undefined): unknown {
  return error !== null && error !== undefined && "code" in error ? error.code : undefined;
}
