/** @module What to do when a proxy volume is not in the state that a command needs. Pure. */
import type { ProxyState } from "./volume.ts";

/** The next step as a sentence with the command. `server` is the proxy's node id. */
export function proxyWayOut(volume: string, server: string, state: ProxyState): string {
  const at = `${volume} --server ${server}`;
  switch (state) {
    case "Stopped":
      return `start it: walb start ${at}`;
    case "Started":
    case "WlogRecv":
      return `stop it first: walb stop ${at}`;
    case "WaitForEmpty":
      return `it stops when everything is sent, see walb status ${volume}; not to wait for that: walb stop ${at}`;
    default:
      return `try again in a moment; see walb status ${volume}`;
  }
}
