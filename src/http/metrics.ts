/** @module Prometheus metrics, made from the status of a daemon. */
import { archiveStatusSchema } from "../control/archive-schemas.ts";
import type { Control } from "../control/control.ts";
import { proxyStatusSchema } from "../control/proxy.ts";
import { storageStatusSchema } from "../control/storage.ts";

type Labels = Readonly<Record<string, string>>;
type Value = number | bigint | boolean | undefined;

/** Collects samples; each metric's lines stay together, as the format wants. */
class Metrics {
  readonly #metrics = new Map<string, { readonly help: string; readonly lines: string[] }>();

  gauge(name: string, help: string, labels: Labels, value: Value): void {
    if (value === undefined) return;
    let metric = this.#metrics.get(name);
    if (metric === undefined) {
      metric = { help, lines: [] };
      this.#metrics.set(name, metric);
    }
    const pairs = Object.entries(labels).map(([label, text]) => `${label}="${escapeLabel(text)}"`);
    metric.lines.push(`${name}{${pairs.join(",")}} ${typeof value === "boolean" ? Number(value) : value}`);
  }

  text(): string {
    let text = "";
    for (const [name, { help, lines }] of this.#metrics) {
      text += `# HELP ${name} ${help}\n# TYPE ${name} gauge\n${lines.join("\n")}\n`;
    }
    return text;
  }
}

/** The metrics of a daemon in the text format, version 0.0.4. */
export async function renderMetrics(control: Control): Promise<string> {
  const metrics = new Metrics();
  const { role, nodeId, version, startedMs } = control.info();
  metrics.gauge("walb_info", "The daemon.", { role, node: nodeId, version }, 1);
  metrics.gauge("walb_start_time_seconds", "When the daemon started.", { role, node: nodeId }, seconds(startedMs));
  const running = control.listJobs().filter((job) => job.state === "running").length;
  metrics.gauge("walb_jobs_running", "Jobs under way.", { role, node: nodeId }, running);
  const outcome = await control.call("status", {});
  if (outcome.kind !== "result") return metrics.text();
  if (role === "storage") addStorage(metrics, outcome.result);
  else if (role === "proxy") addProxy(metrics, outcome.result);
  else addArchive(metrics, outcome.result);
  return metrics.text();
}

function addStorage(metrics: Metrics, status: unknown): void {
  for (const volume of storageStatusSchema.parse(status).volumes) {
    const labels = { volume: volume.volume };
    addState(metrics, "storage", volume.volume, volume.state, volume.trouble !== undefined);
    const gauge = (name: string, help: string, value: Value): void =>
      metrics.gauge(`walb_storage_${name}`, help, labels, value);
    gauge("log_overflow", "1 when log was lost before it was sent.", volume.isOverflow);
    gauge("log_usage_blocks", "Log in use, physical blocks.", volume.logUsagePb);
    gauge("log_capacity_blocks", "Log there is, physical blocks.", volume.logCapacityPb);
    gauge("lag_bytes", "Log that no proxy has yet.", volume.lagBytes);
    gauge("lag_seconds", "Age of the oldest log that no proxy has yet.", seconds(volume.lagMs));
    gauge("last_sent_timestamp_seconds", "When log was last sent.", seconds(volume.lastSentMs));
    gauge("archive_delta_seconds", "How far the primary archive was behind.", volume.archiveDelta?.deltaS);
  }
}

function addProxy(metrics: Metrics, status: unknown): void {
  const { volumes, freeBytes, totalBytes } = proxyStatusSchema.parse(status);
  metrics.gauge("walb_proxy_free_bytes", "Space left where diffs wait.", {}, freeBytes);
  metrics.gauge("walb_proxy_capacity_bytes", "Space there is where diffs wait.", {}, totalBytes);
  for (const volume of volumes) {
    addState(metrics, "proxy", volume.volume, volume.state, volume.trouble !== undefined);
    const received = seconds(volume.lastReceivedMs);
    metrics.gauge(
      "walb_proxy_last_received_timestamp_seconds",
      "When log was last received.",
      { volume: volume.volume },
      received,
    );
    for (const archive of volume.archives) {
      const labels = { volume: volume.volume, archive: archive.archiveName };
      const gauge = (name: string, help: string, value: Value): void =>
        metrics.gauge(`walb_proxy_${name}`, help, labels, value);
      gauge("pending_diffs", "Diffs that wait for the archive.", archive.pendingCount);
      gauge("pending_bytes", "Bytes of diffs that wait for the archive.", archive.pendingBytes);
      gauge("lag_seconds", "Age of the oldest diff that waits.", seconds(archive.lagMs));
      gauge("last_sent_timestamp_seconds", "When a diff was last sent.", seconds(archive.lastSentMs));
      gauge("sending_failed", "1 while sending fails.", archive.trouble !== undefined);
    }
  }
}

function addArchive(metrics: Metrics, status: unknown): void {
  const { volumes, freeBytes, totalBytes } = archiveStatusSchema.parse(status);
  metrics.gauge("walb_archive_free_bytes", "Space left where wdiffs are.", {}, freeBytes);
  metrics.gauge("walb_archive_capacity_bytes", "Space there is where wdiffs are.", {}, totalBytes);
  for (const volume of volumes) {
    const labels = { volume: volume.volume };
    addState(metrics, "archive", volume.volume, volume.state, volume.trouble !== undefined);
    const gauge = (name: string, help: string, value: Value): void =>
      metrics.gauge(`walb_archive_${name}`, help, labels, value);
    gauge("points", "Points the volume can be restored at.", volume.pointCount);
    gauge("newest_point_timestamp_seconds", "Newest of them.", seconds(volume.newestPoint?.timeMs));
    gauge("oldest_point_timestamp_seconds", "Oldest of them.", seconds(volume.oldestPoint?.timeMs));
    gauge("wdiffs", "Diffs kept.", volume.wdiffCount);
    gauge("wdiff_bytes", "Bytes of diffs kept.", volume.wdiffBytes);
    gauge("last_received_timestamp_seconds", "When a diff was last received.", seconds(volume.lastReceivedMs));
  }
}

function addState(metrics: Metrics, role: string, volume: string, state: string, isTroubled: boolean): void {
  metrics.gauge("walb_volume_state", "1 for the state a volume is in.", { role, volume, state }, 1);
  metrics.gauge("walb_volume_trouble", "1 while something fails, see walb status.", { role, volume }, isTroubled);
}

function seconds(ms: number | undefined): number | undefined {
  return ms === undefined ? undefined : ms / 1000;
}

function escapeLabel(text: string): string {
  return text.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n");
}
