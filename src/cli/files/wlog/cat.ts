/** @module `walb wlog cat LOG`: the export of a log device under the name the original has for it. */
import { defineVerb } from "../../verb.ts";
import { verb as exportVerb } from "../log-device/export.ts";

export const verb = defineVerb({
  ...exportVerb,
  examples: [
    "walb wlog cat vol0.log | walb wlog to-wdiff --output vol0.wdiff",
    "walb wlog cat vol0.log --from 1000 -o a.wlog",
  ],
});
