/**
 * @module What the shim gives to the rest: slab memory, the job pool, codecs off the thread or inline, ioctls.
 */
export { createInlineCompute, createPoolCompute } from "./compute.ts";
export { deviceIoctl } from "./ioctl.ts";
export { createMemoryPool } from "./slabs.ts";
export { createJobPool, type JobPool } from "./pool.ts";
