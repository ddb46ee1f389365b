/** @module `wlog-show-raw`: prints a header block that was dumped. */

import { WalbError } from "../../../errors.ts";
import { isUsablePbs } from "../../../log/geometry.ts";
import { lsidBaseOf } from "../../../log/lsid.ts";
import { isPackFault, packFaultError, tryDecodePackHeader } from "../../../log/pack.ts";
import { packLines } from "../../files/lib/log-text.ts";
import { withInput } from "../../files/lib/paths.ts";
import { defineOriginal } from "../tool.ts";

export const tool = defineOriginal({
  name: "wlog-show-raw",
  description: "wlog-show-raw: show the header block of a log pack",
  options: {},
  params: [
    { name: "FILE", help: "file that holds the block" },
    { name: "PBS", help: "physical block size" },
    { name: "SALT", help: "salt of the checksums" },
  ],
  async run({ args, tool, print }) {
    const [pbsBytes, salt] = [args.intParam(1), args.intParam(2)];
    if (!isUsablePbs(pbsBytes)) throw new WalbError("usage", { what: `bad block size ${pbsBytes}` });
    await withInput(tool.platform.disk, args.param(0), async (input) => {
      const lease = await tool.platform.memory.lease(pbsBytes);
      try {
        const gotBytes = await input.read(lease.slice(0, pbsBytes));
        const block = lease.bytes.subarray(0, gotBytes);
        const lsidBase = gotBytes < pbsBytes ? 0n : lsidBaseOf(lease.view.getBigUint64(8, true));
        const header = tryDecodePackHeader(block, { pbsBytes, salt, lsidBase });
        if (isPackFault(header)) throw packFaultError(header, undefined, { file: input.name, offsetBytes: 0 });
        print(packLines(header, lease.view.getUint32(0, true), lsidBase));
      } finally {
        lease.release();
      }
    });
    return 0;
  },
});
