/** @module Requests that are refused because of the state the device is in. */
import { WalbError } from "../../../errors.ts";
import type { Done } from "../block.ts";

/** What a device in another state would do. */
export function stateError(volume: string, what: string, hint: string): WalbError {
  return new WalbError("state", { what, where: { volume }, hint });
}

export function closedError(volume: string): WalbError {
  return stateError(volume, "the device is being stopped", "start it again, then repeat the request");
}

/** Not before the caller is done with what it is at: it may not expect the answer yet. */
export function refuseSoon(done: Done, error: WalbError): void {
  queueMicrotask(() => done(error));
}
