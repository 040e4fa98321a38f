// Queries as Grafana's plugin for Prometheus sends them, and the frames that it makes of the answers.
import { FieldType, rangeUtil, toDataFrame, type DataFrame } from '@grafana/data';
import { fill, FROM, PROMETHEUS, range, SCRAPE, TO, type Variables } from './asked';

type Labels = Record<string, string>;
interface Series { metric: Labels; value: [number, string]; values: Array<[number, string]> }
export interface Mark { at: number; text: string; colour: string; panels?: number[] }

async function ask(path: string, query: Record<string, string | number>): Promise<Series[]> {
  const body = new URLSearchParams(Object.entries(query).map(([name, value]) => [name, String(value)]));
  const answer = await (await fetch(`${PROMETHEUS}/api/v1/${path}`, { method: 'POST', body })).json();
  if (answer.status !== 'success') throw new Error(answer.error);
  return answer.data.result;
}

const number = (text: string) => (text === '+Inf' ? Infinity : text === '-Inf' ? -Infinity : Number(text));

function named(legend: string, labels: Labels): string {
  if (legend) return legend.replace(/\{\{\s*(.+?)\s*\}\}/g, (_, name) => labels[name] ?? '');
  const rest = Object.entries(labels).filter(([name]) => name !== '__name__');
  return `${labels.__name__ ?? ''}{${rest.map(([name, value]) => `${name}="${value}"`).join(', ')}}`;
}

function table(target: any, result: Series[], value: string): DataFrame {
  const labels = [...new Set(result.flatMap(({ metric }) => Object.keys(metric)))].sort();
  return toDataFrame({
    refId: target.refId,
    fields: [
      { name: 'Time', type: FieldType.time, values: result.map((one) => one.value[0] * 1000) },
      ...labels.map((label) => ({ name: label, type: FieldType.string, values: result.map(({ metric }) => metric[label] ?? '') })),
      { name: value, type: FieldType.number, values: result.map((one) => number(one.value[1])) },
    ],
  });
}

function curve(target: any, labels: Labels, values: Array<[number, string]>, step?: number): DataFrame {
  const config = { displayNameFromDS: named(target.legendFormat, labels) };
  return toDataFrame({
    refId: target.refId,
    fields: [
      { name: 'Time', type: FieldType.time, config: { interval: step && step * 1000 }, values: values.map(([at]) => at * 1000) },
      { name: 'Value', type: FieldType.number, labels, config, values: values.map(([, value]) => number(value)) },
    ],
  });
}

/** Asks a target of a panel that is `width` pixels wide and has `targets` of them. */
export async function frames(target: any, variables: Variables, width: number, targets: number): Promise<DataFrame[]> {
  const step = Math.max(rangeUtil.calculateInterval(range, Math.max(width, 100), `${SCRAPE}s`).intervalMs / 1000, SCRAPE);
  const rate = Math.max(step + SCRAPE, 4 * SCRAPE);
  const query = fill(target.expr, { ...variables, __rate_interval: `${rate}s`, __interval: `${step}s` });
  if (target.instant) {
    const result = await ask('query', { query, time: TO });
    if (target.format === 'table') return result.length ? [table(target, result, targets > 1 ? `Value #${target.refId}` : 'Value')] : [];
    return result.map(({ metric, value }) => curve(target, metric, [value]));
  }
  const [start, end] = [FROM, TO].map((second) => Math.floor(second / step) * step);
  const result = await ask('query_range', { query, start, end, step });
  return result.map(({ metric, values }) => curve(target, metric, values, step));
}

/** The marks of an annotation: the first moment of each stretch of points. */
export async function marks(annotation: any, variables: Variables): Promise<Mark[]> {
  const step = rangeUtil.intervalToSeconds(annotation.step);
  const result = await ask('query_range', { query: fill(annotation.expr, variables), start: FROM, end: TO, step });
  return result.flatMap(({ metric, values }) =>
    values.filter(([at], n) => n === 0 || at - values[n - 1][0] > step)
      .map(([at]) => ({ at, text: `${named(annotation.titleFormat, metric)} ${named(annotation.textFormat, metric)}`, colour: annotation.iconColor, panels: annotation.filter?.ids })));
}

export async function services(): Promise<string[]> {
  const query = new URLSearchParams({ 'match[]': 'lethe_build_info', start: String(FROM), end: String(TO) });
  return (await (await fetch(`${PROMETHEUS}/api/v1/label/service/values?${query}`)).json()).data;
}
