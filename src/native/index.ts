/**
 * @module What the shim gives to the rest: slab memory, the job pool, codecs off the thread or inline, ioctls, file events.
 */
export { checkCompressOption, createInlineCompute, createPoolCompute } from "./compute.ts";
export { ErrnoError } from "./errno.ts";
export { nodeIoctl } from "./ioctl.ts";
export { createInlineRunner, createJobPool, type JobPool } from "./pool.ts";
export { SipHash } from "./siphash.ts";
export { createMemoryPool } from "./slabs.ts";
export { watchPriority } from "./watch.ts";
