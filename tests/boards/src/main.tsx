// Draws a dashboard's JSON with Grafana's libraries under the Apache licence, from the data of a Prometheus.
import React from 'react';
import { createRoot } from 'react-dom/client';
import { firstValueFrom } from 'rxjs';
import { EventBusSrv, getFieldDisplayValues, locationUtil, transformDataFrame, type DataFrame } from '@grafana/data';
import { BigValue, GlobalStyles, PanelChrome, PanelContextProvider, Table, TimeSeries, VizRepeater, type UPlotConfigBuilder } from '@grafana/ui';
import { ThemeContext } from '@grafana/data';

import { fill, range, theme, type Variables } from './asked';
import { complaints, CUSTOM, described, prepared } from './fields';
import { placed } from './places';
import { frames, marks, services, type Mark } from './prometheus';
import { Timeline } from './timeline';

const GRID = { columns: 24, cell: 30, gap: 8, margin: 16 };
const bus = new EventBusSrv();
(window as any).__grafana_public_path__ = 'public/';
locationUtil.initialize({ config: { appSubUrl: '' } as any, getVariablesUrlParams: () => ({}), getTimeRangeForUrl: () => ({}) as any });

function Marks({ config, marks }: { config: UPlotConfigBuilder; marks: Mark[] }) {
  React.useLayoutEffect(() => {
    config.addHook('draw', (plot) => {
      const { ctx, bbox } = plot, ratio = devicePixelRatio;
      for (const mark of marks) {
        const x = plot.valToPos(mark.at * 1000, 'x', true);
        ctx.save();
        ctx.strokeStyle = ctx.fillStyle = theme.visualization.getColorByName(mark.colour);
        ctx.lineWidth = ratio;
        ctx.setLineDash([4 * ratio, 4 * ratio]);
        ctx.beginPath(); ctx.moveTo(x, bbox.top); ctx.lineTo(x, bbox.top + bbox.height); ctx.stroke();
        ctx.fillRect(x - 2 * ratio, bbox.top + bbox.height, 4 * ratio, 4 * ratio);
        ctx.restore();
      }
    });
  }, [config, marks]);
  return null;
}

interface Shown { panel: any; variables: Variables; marks: Mark[]; width: number; height: number; report: (said: object) => void }

function Content({ panel, variables, marks, width, height, report }: Shown) {
  const [data, setData] = React.useState<DataFrame[]>();
  const [error, setError] = React.useState<string>();
  React.useEffect(() => {
    (async () => {
      if (!CUSTOM[panel.type]) throw new Error(`unknown panel type ${panel.type}`);
      const wrong = complaints(panel);
      if (wrong.length) throw new Error(wrong.join(', '));
      const raw = await Promise.all(panel.targets.map((target: any) => frames(target, variables, width, panel.targets.length)));
      const changed = await firstValueFrom(transformDataFrame(panel.transformations ?? [], raw.flat()));
      const ready = prepared(panel, changed, variables);
      setData(ready);
      report({ type: panel.type, ...described(panel, ready) });
    })().catch((failed) => { setError(String(failed)); report({ type: panel.type, error: String(failed) }); });
  }, []);
  if (error) return <div className="failed">{error}</div>;
  if (!data) return null;
  if (panel.type === 'stat') return <Numbers panel={panel} data={data} variables={variables} width={width} height={height} />;
  if (!data.some((frame) => frame.length)) return <div className="nothing">{panel.fieldConfig?.defaults.noValue ?? 'No data'}</div>;
  if (panel.type === 'table') return <Table data={data[0]} width={width} height={height} ariaLabel={panel.title} initialSortBy={panel.options?.sortBy} />;
  if (panel.type === 'state-timeline') return <Timeline frame={data[0]} width={width} height={height} />;
  return (
    <TimeSeries frames={data} structureRev={1} timeRange={range} timeZone="browser" width={width} height={height} legend={panel.options.legend} options={panel.options} {...({} as any)}>
      {(config: UPlotConfigBuilder) => <Marks config={config} marks={marks} />}
    </TimeSeries>
  );
}

function Numbers({ panel, data, variables, width, height }: { panel: any; data: DataFrame[]; variables: Variables; width: number; height: number }) {
  const { reduceOptions, ...options } = panel.options;
  const values = getFieldDisplayValues({
    data, fieldConfig: panel.fieldConfig, theme, timeZone: 'browser', replaceVariables: (text, scoped) => fill(text, variables, scoped),
    reduceOptions: { values: false, ...reduceOptions },
  });
  return (
    <VizRepeater width={width} height={height} orientation={options.orientation} source={data} getValues={() => values} autoGrid renderCounter={0} itemSpacing={3}
      renderValue={({ value, width, height, count }: any) => <BigValue value={value.display} width={width} height={height} count={count} theme={theme} {...options} />} />
  );
}

function Board({ board, names, variables, found }: { board: any; names: string[]; variables: Variables; found: Mark[] }) {
  const width = document.documentElement.clientWidth - 2 * GRID.margin;
  const column = (width + GRID.gap) / GRID.columns, line = GRID.cell + GRID.gap;
  const places = placed(board, names, variables);
  const wanted = places.filter(({ panel }) => panel.type !== 'row').length;
  const reports = React.useRef<Record<number, object>>({});
  const report = (n: number, title: string) => (said: object) => {
    reports.current[n] = { title, ...said };
    if (Object.keys(reports.current).length === wanted) (window as any).drawn = Object.values(reports.current);
  };
  return (
    <ThemeContext.Provider value={theme}>
      <GlobalStyles />
      <PanelContextProvider value={{ eventBus: bus, eventsScope: 'global', sync: () => board.graphTooltip } as any}>
        <header>
          <b>{board.title}</b>
          {board.templating.list.map((one: any) => <span key={one.name} className="box"><i>{one.label}</i>{String(one.current.text)}</span>)}
          <span className="box range">{range.from.format('YYYY-MM-DD HH:mm:ss')} to {range.to.format('HH:mm:ss')}</span>
        </header>
        <main style={{ position: 'relative', margin: GRID.margin, height: Math.max(...places.map(({ y, h }) => y + h)) * line }}>
          {places.map(({ panel, variables, x, y, w, h }, n) => {
            const title = fill(panel.title, variables);
            const box = { position: 'absolute' as const, left: x * column, top: y * line };
            if (panel.type === 'row') return <div key={n} style={box} className="row">⌄ {title}</div>;
            return (
              <div key={n} style={box} data-panel={title}>
                <PanelChrome title={title} description={panel.description} width={w * column - GRID.gap} height={h * line - GRID.gap} padding="md">
                  {(width, height) => <Content panel={panel} variables={variables} marks={found.filter((mark) => mark.panels?.includes(panel.id) ?? true)} width={width} height={height} report={report(n, title)} />}
                </PanelChrome>
              </div>
            );
          })}
        </main>
      </PanelContextProvider>
    </ThemeContext.Provider>
  );
}

(async () => {
  const board = await (await fetch('board.json')).json();
  const names = await services();
  const variables = Object.fromEntries(board.templating.list.filter((one: any) => one.type === 'textbox').map((one: any) => [one.name, one.current.value]));
  const found = await Promise.all(board.annotations.list.map((one: any) => marks(one, { ...variables, service: names.join('|') })));
  document.body.style.background = theme.colors.background.canvas;
  document.body.style.color = theme.colors.text.primary;
  createRoot(document.getElementById('root')!).render(<Board board={board} names={names} variables={variables} found={found.flat()} />);
})();
