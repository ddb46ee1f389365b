/** @module The simulated world: virtual time, hosts, the network. */
import type { SimWorld, SimWorldOptions } from "./api.ts";

/** Makes a world in which everything follows from the seed. */
export declare function createSimWorld(seed: number, options?: SimWorldOptions): SimWorld;
