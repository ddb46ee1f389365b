/**
 * @module The HTTP API of a daemon: commands, jobs with their events, status, health, metrics.
 *
 * `POST /api/<command>` takes the parameters as JSON and answers `{ok}`, `{job}` (202) or `{error}`, with the status that
 * the error's code has in errors.ts.
 */

import type { Context } from "hono";
import { Hono } from "hono";
import { bodyLimit } from "hono/body-limit";
import type { ContentfulStatusCode } from "hono/utils/http-status";
import type { Control } from "../control/control.ts";
import type { Logger } from "../control/logger.ts";
import { toJson } from "../control/schemas.ts";
import { asWalbError, errorCodes, WalbError } from "../errors.ts";
import type { Tokens } from "../secure/token.ts";
import { jobEvents } from "./events.ts";
import { checkRequest, checkToken } from "./guard.ts";
import { renderMetrics } from "./metrics.ts";

/** Largest body of a request. */
const bodyBytesMax = 1024 * 1024;

/**
 * Makes the app; answers every request, never throws.
 * @param tokens of requests that come without a proof of the cluster key: each must show one. Without, none needs to.
 */
export function createApp(control: Control, log: Logger, tokens?: Tokens): Hono {
  const app = new Hono();

  app.use(async (context, next) => {
    checkRequest(context.req.raw, control.info().security);
    if (tokens !== undefined) checkToken(context.req.raw, tokens);
    await next();
  });
  app.use(
    "/api/*",
    bodyLimit({
      maxSize: bodyBytesMax,
      onError: () => {
        throw new WalbError("bad-parameter", { what: `the request is larger than ${bodyBytesMax} bytes` });
      },
    }),
  );

  app.get("/health", (context) => answer(context, { ok: { role: control.role, nodeId: control.info().nodeId } }));
  app.get("/metrics", async (context) =>
    context.text(await renderMetrics(control), 200, { "content-type": "text/plain; version=0.0.4; charset=utf-8" }),
  );
  app.get("/api/status", async (context) => {
    const outcome = await control.call("status", {});
    const status = outcome.kind === "result" ? outcome.result : {};
    return answer(context, { ok: { server: control.info(), status, jobs: control.listJobs() } });
  });

  app.get("/api/jobs", (context) => answer(context, { ok: { jobs: control.listJobs() } }));
  app.get("/api/jobs/:id", (context) => answer(context, { ok: control.job(context.req.param("id")) }));
  app.delete("/api/jobs/:id", async (context) =>
    answer(context, { ok: await control.cancelJob(context.req.param("id")) }),
  );
  app.get("/api/jobs/:id/events", (context) => jobEvents(control, context.req.param("id")));

  app.post("/api/:command", async (context) => {
    const outcome = await control.call(context.req.param("command"), await readJson(context.req.raw));
    return outcome.kind === "job"
      ? answer(context, { job: outcome.job }, 202)
      : answer(context, { ok: outcome.result });
  });

  app.notFound((context) =>
    fail(
      context,
      new WalbError("not-found", {
        what: `there is nothing at ${context.req.method} ${context.req.path}`,
        hint: "commands are called like this: curl -X POST -H 'content-type: application/json' -d '{}' http://127.0.0.1:10200/api/status",
      }),
    ),
  );
  app.onError((thrown, context) => {
    const error = asWalbError(thrown);
    if (error.code === "internal") log.error("request failed", { path: context.req.path, error });
    return fail(context, error);
  });
  return app;
}

async function readJson(request: Request): Promise<unknown> {
  const type = request.headers.get("content-type") ?? "";
  if (type.split(";")[0]?.trim() !== "application/json") {
    throw new WalbError("bad-parameter", {
      what: `the request has the content type ${JSON.stringify(type)}`,
      where: { field: "content-type" },
      hint: "send JSON: curl -H 'content-type: application/json' -d '{}' …",
    });
  }
  const text = await request.text().catch((cause: unknown) => {
    throw new WalbError("bad-parameter", { what: "the body of the request did not come to its end", cause });
  });
  if (text === "") return {};
  try {
    return JSON.parse(text) as unknown;
  } catch (cause) {
    throw new WalbError("bad-parameter", { what: "the body of the request is not JSON", cause });
  }
}

function answer(context: Context, value: unknown, status: ContentfulStatusCode = 200): Response {
  return context.body(toJson(value), status, { "content-type": "application/json" });
}

function fail(context: Context, error: WalbError): Response {
  // A browser asks its user for it.
  if (error.code === "no-token") context.header("www-authenticate", 'Basic realm="walb", charset="UTF-8"');
  return answer(context, { error }, errorCodes[error.code].http);
}
