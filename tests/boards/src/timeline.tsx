// A state timeline: one bar for each stretch of equal values. Grafana's own is not under the Apache licence.
import React from 'react';
import { FieldType, type DataFrame } from '@grafana/data';
import { FROM, theme, TO } from './asked';

const AXIS = { left: 45, right: 8, bottom: 4 };

export function Timeline({ frame, width, height }: { frame: DataFrame; width: number; height: number }) {
  const canvas = React.useRef<HTMLCanvasElement>(null);
  React.useLayoutEffect(() => {
    const ratio = devicePixelRatio, context = canvas.current!.getContext('2d')!;
    context.scale(ratio, ratio);
    context.font = '12px Inter';
    context.textBaseline = 'middle';
    const times = frame.fields.find((field) => field.type === FieldType.time)!.values;
    const states = frame.fields.find((field) => field.type !== FieldType.time)!;
    const place = (ms: number) => AXIS.left + ((ms / 1000 - FROM) / (TO - FROM)) * (width - AXIS.left - AXIS.right);
    const tall = height - AXIS.bottom;
    for (let first = 0; first < times.length;) {
      let next = first + 1;
      while (next < times.length && states.values[next] === states.values[first]) next++;
      const left = place(times[first]), right = next < times.length ? place(times[next]) : place(times[next - 1]);
      const { text, color } = states.display!(states.values[first]);
      context.fillStyle = color!;
      context.globalAlpha = states.config.custom.fillOpacity / 100;
      context.fillRect(left, 0, right - left, tall);
      context.globalAlpha = 1;
      context.fillRect(left, 0, 1, tall);
      context.fillStyle = theme.colors.text.primary;
      const room = right - left - 6;
      let shown = text;
      while (shown && context.measureText(shown).width > room) shown = shown.slice(0, -1); // as Grafana, cut off at its bar's end
      context.fillText(shown, left + 4, tall / 2);
      first = next;
    }
  }, [frame, width, height]);
  return <canvas ref={canvas} width={width * devicePixelRatio} height={height * devicePixelRatio} style={{ width, height }} />;
}
