/** @module Flags and arguments that the commands about keys share. */
import { asPath, option, toggle } from "../flags.ts";
import { defaultKeyFile } from "./file.ts";

export const keyFlags = {
  json: toggle("one JSON value on stdout instead of text; fields may be added"),
  "cluster-key": option("FILE", "the same as the argument", asPath),
};

export const keyPositional = { name: "FILE", help: `key file; default ${defaultKeyFile}` } as const;
