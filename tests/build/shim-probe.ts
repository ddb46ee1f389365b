/** @module A program that uses the shim's pool, compiled by the build test to prove that the shim is embedded. */
import { createPlatform } from "../../src/platform/real/index.ts";

const platform = createPlatform({ memoryBudgetBytes: 1 << 20 });
const lease = await platform.memory.lease(4096);
lease.bytes.fill(65, 0, 512);
const [checksum] = await platform.compute.checksums([lease.slice(0, 512)], 0);
console.log(`checksum ${checksum?.toString(16)}`);
