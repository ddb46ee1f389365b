/** @module Server-sent events of a job: one `data:` line of JSON for each change, and the last with the end. */
import type { Control } from "../control/control.ts";
import type { JobInfo } from "../control/job.ts";
import { toJson } from "../control/schemas.ts";

const encoder = new TextEncoder();

/** The event stream of a job; ends after the event that says how the job ended. @throws WalbError `not-found`. */
export function jobEvents(control: Control, id: string): Response {
  control.job(id);
  let stop: (() => void) | undefined;
  const body = new ReadableStream<Uint8Array>(
    {
      start(stream) {
        let isOver = false;
        const changed = (job: JobInfo): void => {
          const isEnd = job.state !== "running";
          // A reader that does not keep up loses steps between, never the end.
          if (isOver || (!isEnd && (stream.desiredSize ?? 0) <= 0)) return;
          stream.enqueue(encoder.encode(`data: ${toJson(job)}\n\n`));
          if (!isEnd) return;
          isOver = true;
          stream.close();
        };
        stop = control.watchJob(id, changed);
      },
      cancel() {
        stop?.();
      },
    },
    { highWaterMark: 16 },
  );
  return new Response(body, {
    headers: { "content-type": "text/event-stream", "cache-control": "no-store" },
  });
}
