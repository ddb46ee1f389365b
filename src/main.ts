/** @module Start of the executable: the first argument selects the role or verb. */
import { version } from "../package.json" with { type: "json" };

if (process.argv[2] === "version") {
  console.log(`walb ${version}`);
} else {
  console.error("usage: walb version");
  process.exitCode = 2;
}
