// Where each panel stands, with rows opened and rows and panels repeated for the services.
import type { Variables } from './asked';

const COLUMNS = 24;
export interface Place { panel: any; variables: Variables; x: number; y: number; w: number; h: number }

function sections(board: any): Array<{ row?: any; panels: any[] }> {
  const found: Array<{ row?: any; panels: any[] }> = [{ panels: [] }];
  for (const panel of board.panels) {
    if (panel.type === 'row') found.push({ row: panel, panels: [...(panel.panels ?? [])] });
    else found.at(-1)!.panels.push(panel);
  }
  return found;
}

/** Places the panels of one section from line `top` on, and returns the line below them. */
function place(panels: any[], services: string[], variables: Variables, top: number, out: Place[]): number {
  if (!panels.length) return top;
  const begin = Math.min(...panels.map((panel) => panel.gridPos.y));
  let below = top, moved = 0;
  for (const panel of panels) {
    const { x, w, h } = panel.gridPos;
    const y = top + panel.gridPos.y - begin + moved;
    if (!panel.repeat) {
      out.push({ panel, variables, x, y, w, h });
      below = Math.max(below, y + h);
      continue;
    }
    const across = Math.min(services.length, panel.maxPerRow ?? 4), wide = COLUMNS / across;
    services.forEach((service, n) => out.push({ panel, variables: { ...variables, service }, x: (n % across) * wide, y: y + Math.floor(n / across) * h, w: wide, h }));
    const lines = Math.ceil(services.length / across);
    moved += (lines - 1) * h;
    below = Math.max(below, y + lines * h);
  }
  return below;
}

export function placed(board: any, services: string[], variables: Variables): Place[] {
  const out: Place[] = [];
  const every = { ...variables, service: services.length > 1 ? `(${services.join('|')})` : services[0] };
  let below = 0;
  for (const { row, panels } of sections(board)) {
    for (const here of row?.repeat ? services.map((service) => ({ ...every, service })) : [every]) {
      if (row) out.push({ panel: row, variables: here, x: 0, y: below++, w: COLUMNS, h: 1 });
      below = place(panels, row?.repeat ? [here.service] : services, here, below, out);
    }
  }
  return out;
}
