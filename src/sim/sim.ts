/** @module Entrance to the simulator: `createSimWorld(seed)`. */
export * from "./api.ts";
export { createSimWorld } from "./world.ts";
