// What the page was asked to draw, and the text variables of Grafana.
import { createTheme, dateTime, type ScopedVars, type TimeRange } from '@grafana/data';

const asked = new URLSearchParams(location.search);
export const PROMETHEUS = asked.get('prometheus')!;
export const TO = Number(asked.get('to'));
export const FROM = Number(asked.get('from'));
/** Seconds between two scrapes, as Grafana's data source is configured. */
export const SCRAPE = Number(asked.get('scrape'));
export const theme = createTheme({ colors: { mode: asked.get('theme') as 'dark' | 'light' } });
const [from, to] = [dateTime(FROM * 1000), dateTime(TO * 1000)];
export const range: TimeRange = { from, to, raw: { from, to } };

export type Variables = Record<string, string>;

/** Replaces $name and ${name} by variables, and ${__value.raw} and its like by what a link stands on. */
export function fill(text: string, variables: Variables, scoped?: ScopedVars): string {
  return text.replace(/\$\{([\w.]+)\}|\$(\w+)/g, (whole, braced, bare) => {
    const name: string = braced ?? bare;
    const context = scoped?.__dataContext?.value;
    if (name === '__url_time_range') return `from=${FROM * 1000}&to=${TO * 1000}`;
    if (context && name === '__value.raw') return String(context.field.values[context.rowIndex]);
    if (context && name.startsWith('__field.labels.')) return context.field.labels?.[name.slice('__field.labels.'.length)] ?? whole;
    if (context && name.startsWith('__data.fields.')) {
      const title = name.slice('__data.fields.'.length);
      const field = context.frame.fields.find((one: any) => one.name === title || one.state?.displayName === title);
      return field ? String(field.values[context.rowIndex]) : whole;
    }
    return variables[name] ?? whole;
  });
}
