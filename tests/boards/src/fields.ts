// Field options: Grafana's panel plugins, which are not under the Apache licence, bring these defaults.
import {
  applyFieldOverrides, FieldConfigOptionsRegistry, FieldType, getFieldDisplayName, getFieldSeriesColor, getValueFormats,
  identityOverrideProcessor, standardTransformers, standardTransformersRegistry, type DataFrame, type FieldConfigSource,
} from '@grafana/data';
import { fill, theme, type Variables } from './asked';

const CURVE = {
  drawStyle: 'line', lineInterpolation: 'linear', lineWidth: 1, fillOpacity: 0, gradientMode: 'none', showPoints: 'auto',
  pointSize: 5, spanNulls: false, insertNulls: false, axisPlacement: 'auto', axisColorMode: 'text', axisBorderShow: false,
  axisCenteredZero: false, axisLabel: '', axisSoftMin: undefined, axisSoftMax: undefined, barAlignment: 0, barWidthFactor: 0.6,
  barMaxWidth: undefined, scaleDistribution: { type: 'linear' }, stacking: { group: 'A', mode: 'none' },
  hideFrom: { legend: false, tooltip: false, viz: false }, thresholdsStyle: { mode: 'off' }, lineStyle: undefined,
};
const CELL = { align: 'auto', cellOptions: { type: 'auto' }, inspect: false, filterable: undefined, width: undefined, minWidth: undefined, hidden: undefined };
const BAR = { fillOpacity: 70, lineWidth: 0, hideFrom: { legend: false, tooltip: false, viz: false } };
/** The panel types that can be drawn, with the defaults of their own options. */
export const CUSTOM: Record<string, object> = { timeseries: CURVE, table: CELL, stat: {}, 'state-timeline': BAR };
const COLOUR: Record<string, string> = { timeseries: 'palette-classic', table: 'thresholds', stat: 'thresholds', 'state-timeline': 'continuous-GrYlRd' };
const STEPS = [{ value: -Infinity, color: 'green' }, { value: 80, color: 'red' }];
const STANDARD = ['unit', 'min', 'max', 'decimals', 'displayName', 'color', 'noValue', 'links', 'mappings', 'thresholds', 'filterable', 'fieldMinMax'];

const REGISTRIES = Object.fromEntries(Object.entries(CUSTOM).map(([type, custom]) => {
  const item = (path: string, isCustom: boolean) => ({
    id: isCustom ? `custom.${path}` : path, path, name: path, isCustom, process: identityOverrideProcessor, override: null,
    editor: null, shouldApply: () => true, settings: {},
  });
  const all = [...STANDARD.map((name) => item(name, false)), ...Object.keys(custom).map((name) => item(name, true))];
  return [type, new FieldConfigOptionsRegistry(() => all as any)];
}));
standardTransformersRegistry.setInit(() => {
  const byId = new Map(Object.values(standardTransformers).map((one: any) => [one.id, one]));
  return [...byId.values()].map((transformation) => ({ id: transformation.id, name: transformation.name, transformation }) as any);
});

const UNITS = new Set(getValueFormats().flatMap((group) => group.submenu.map((unit: any) => unit.value)));
const PREFIXES = /^(prefix|suffix|time|si|count|currency|bool):/;

/** Says which options of a panel Grafana would pass over without a word. */
export function complaints(panel: any): string[] {
  const source = panel.fieldConfig ?? { defaults: {}, overrides: [] };
  const properties = source.overrides.flatMap((one: any) => one.properties);
  const units = [source.defaults.unit, ...properties.filter((one: any) => one.id === 'unit').map((one: any) => one.value)];
  const transformations = (panel.transformations ?? []).map((one: any) => one.id);
  const registry = REGISTRIES[panel.type];
  return [
    ...units.filter((unit) => unit && !UNITS.has(unit) && !PREFIXES.test(unit)).map((unit) => `unknown unit ${unit}`),
    ...transformations.filter((id: string) => !standardTransformersRegistry.getIfExists(id)).map((id: string) => `unknown transformation ${id}`),
    ...properties.filter((one: any) => !registry.getIfExists(one.id)).map((one: any) => `unknown option ${one.id}`),
    ...Object.keys(source.defaults.custom ?? {}).filter((name) => !registry.getIfExists(`custom.${name}`)).map((name) => `unknown option custom.${name}`),
  ];
}

/** A curve has nothing to show of what is infinite or no number. */
const finite = (frame: DataFrame): DataFrame => ({
  ...frame,
  fields: frame.fields.map((field) => (field.type === FieldType.number ? { ...field, values: field.values.map((v) => (Number.isFinite(v) ? v : null)) } : field)),
});

export function prepared(panel: any, data: DataFrame[], variables: Variables): DataFrame[] {
  const given: FieldConfigSource = structuredClone(panel.fieldConfig ?? { defaults: {}, overrides: [] });
  given.defaults.custom = { ...CUSTOM[panel.type], ...given.defaults.custom };
  given.defaults.color ??= { mode: COLOUR[panel.type] };
  given.defaults.thresholds ??= { mode: 'absolute', steps: STEPS } as any;
  for (const step of given.defaults.thresholds!.steps) step.value ??= -Infinity;
  for (const property of given.overrides.flatMap((one) => one.properties)) {
    if (property.id === 'thresholds') for (const step of property.value.steps) step.value ??= -Infinity;
  }
  const ready = applyFieldOverrides({
    data: panel.type === 'timeseries' ? data.map(finite) : data,
    fieldConfig: given, theme, timeZone: 'browser', fieldConfigRegistry: REGISTRIES[panel.type],
    replaceVariables: (text, scoped) => fill(text, variables, scoped),
  });
  if (panel.type === 'timeseries') {
    // colours go by names, which the library loses when it joins curves, and Grafana's panel does not
    for (const frame of ready) for (const field of frame.fields) if (field.type !== FieldType.time) field.name = getFieldDisplayName(field, frame, ready);
  }
  return ready;
}

/** The curves of `data` with their names and colours, and the headers of a table. */
export function described(panel: any, data: DataFrame[]) {
  const values = data.flatMap((frame) => frame.fields.filter((field) => field.type !== FieldType.time).map((field) => ({ frame, field })));
  return {
    headers: panel.type === 'table' ? (data[0]?.fields ?? []).map((field) => getFieldDisplayName(field, data[0], data)) : [],
    series: panel.type === 'timeseries' ? values.map(({ frame, field }) => ({ name: getFieldDisplayName(field, frame, data), colour: getFieldSeriesColor(field, theme).color })) : [],
    points: values.reduce((sum, { field }) => sum + field.values.filter((value) => value !== null && (panel.type === 'stat' || !Number.isNaN(value))).length, 0),
  };
}
