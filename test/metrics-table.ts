import { Metrics } from '../src/server/metrics.js';

/** Rows of docs/metrics.md: what the registry of a server without models holds of our own metrics. */
export function metricRows(): readonly string[] {
  const { registry } = new Metrics({ loaded: async () => [] });
  return registry
    .getMetricsAsArray()
    .map((metric) => metric as unknown as MetricInfo)
    .filter(({ name }) => name.startsWith('instructd_'))
    .map(
      ({ name, type, labelNames, help }) => `| \`${name}\` | ${type} | ${labelNames.join(', ')} | ${help} |`,
    );
}

interface MetricInfo {
  readonly name: string;
  readonly type: string;
  readonly labelNames: readonly string[];
  readonly help: string;
}
