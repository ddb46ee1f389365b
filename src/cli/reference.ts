/**
 * @module The reference of the command line, docs/cli.md, made from the declarations of the commands. Written anew with:
 * node_modules/.bin/bun run src/cli/reference.ts
 */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { errorCodes } from "../errors.ts";
import { program } from "./commands.ts";
import { renderVerbHelp } from "./help.ts";
import { commandLines } from "./program.ts";

const introduction = `# The command line

Made from the program itself; the same text is in \`walb COMMAND --help\`.

Every flag can also be given in the environment: \`--device-data\` is \`WALB_DEVICE_DATA\`. Sizes take K, M, G, T (powers of
1024). Times are \`2026-11-21 14:03:05\` (local), ISO 8601, or how long ago: \`-5m\`, \`-2h\`, \`-3d\`. A server is \`host:port\`,
a name from the fleet file, or the node id of a server there. With \`--json\` stdout is one JSON value, to which fields may
be added, and an error is one line \`{"error": {code, what, where, hint}}\` on stderr.
`;

/** The whole page. */
export async function renderReference(): Promise<string> {
  let text = `${introduction}\n`;
  for (const { path, load } of commandLines(program)) {
    text += `\n## walb ${path.join(" ")}\n\n\`\`\`\n${renderVerbHelp(path, await load())}\`\`\`\n`;
  }
  text += "\n## Error codes\n\n";
  text += "| code | exit code | HTTP status |\n|---|---|---|\n";
  for (const [code, { exit, http }] of Object.entries(errorCodes)) text += `| ${code} | ${exit} | ${http} |\n`;
  return text;
}

if (import.meta.main) writeFileSync(join(import.meta.dir, "../../docs/cli.md"), await renderReference());
