// lazy: it brings the chart with it.
//
// The timeline: throughput, what the nodes were, elections and everything else
// that happened, on one axis of time.
import uPlot from 'uplot';
import { html, signal, useEffect, useLayoutEffect, useRef, useState } from '../lib/html.js';
import { clockTime, now, rate } from '../lib/format.js';
import { go } from '../lib/router.js';
import { events, eventsError, eventsState, nodeOf } from '../data/events.js';
import { nodes, second } from '../data/objects.js';
import { samples } from '../data/topics.js';
import { EventRow, eventLink, eventSign } from './events.js';

const gutter = 64; // left of the axis: names and numbers
const right = 16;
const chartHeight = 170;
const laneHeight = 32;
const spans = [[5, '5 min'], [15, '15 min'], [60, '1 h'], [360, '6 h']];

const minutes = signal(5);
const only = signal('all'); // all, warnings, elections

const style = document.createElement('link');
style.rel = 'stylesheet';
style.href = new URL('../vendor/uplot.css', import.meta.url).href;
document.head.append(style);

export function TimelineView() {
  const place = useRef();
  const [width, setWidth] = useState(0);
  const [stopped, setStopped] = useState(null); // the end of the axis while it stands still
  useLayoutEffect(() => {
    const measure = () => setWidth(place.current.clientWidth);
    measure();
    const observer = new ResizeObserver(measure);
    observer.observe(place.current);
    return () => observer.disconnect();
  }, []);
  useEffect(() => {
    const onKey = (e) => {
      if (e.detail !== 'p') return;
      e.preventDefault();
      setStopped((s) => (s ? null : now()));
    };
    addEventListener('wiber-key', onKey);
    return () => removeEventListener('wiber-key', onKey);
  }, []);
  second.value;
  const to = stopped ?? now();
  const from = to - minutes.value * 60000;
  const chosen = (e) => only.value === 'all' || (only.value === 'warnings' ? e.warning : e.reason === 'LeaderChanged');
  const inside = events.value.filter((e) => e.at >= from && e.first <= to && chosen(e));
  return html`<div class="view timeline">
    <div class="viewhead">
      <h1>Timeline</h1>
      <span class="seg" role="radiogroup" aria-label="How far back">${spans.map(([m, word]) => html`<button class="small" role="radio" aria-checked=${minutes.value === m} onClick=${() => (minutes.value = m)}>${word}</button>`)}</span>
      <span class="seg" role="radiogroup" aria-label="Which events">${[['all', 'All'], ['warnings', 'Warnings'], ['elections', 'Elections']].map(([k, word]) => html`<button class="small" role="radio" aria-checked=${only.value === k} onClick=${() => (only.value = k)}>${word}</button>`)}</span>
      <button class="small pause" aria-pressed=${!!stopped} onClick=${() => setStopped(stopped ? null : now())}>${stopped ? 'Go on' : 'Hold still'}</button>
      ${stopped && html`<span class="seg"><button class="small" aria-label="Earlier" onClick=${() => setStopped(stopped - minutes.value * 30000)}>←</button><button class="small" aria-label="Later" onClick=${() => setStopped(Math.min(now(), stopped + minutes.value * 30000))}>→</button></span>`}
    </div>
    <section class="panel axis-panel" ref=${place} aria-label="Throughput and events on one axis">
      ${width > 0 && html`<${Chart} width=${width} from=${from} to=${to} />
      <${Lanes} width=${width} from=${from} to=${to} shown=${inside} />`}
    </section>
    <section class="panel events" aria-labelledby="what-h">
      <h2 id="what-h">Events <span class="hint">newest first; a click goes to the output of that moment</span></h2>
      <ul class="eventlist">${inside.slice(-200).reverse().map((e) => html`<${EventRow} key=${e.key} event=${e} day />`)}</ul>
      ${inside.length === 0 && html`<p class="dim">${eventsState.value === 'loading' ? 'Loading…' : eventsState.value === 'down' ? eventsError.value?.message || 'Not known while the controller does not answer.' : 'Nothing happened in this time.'}</p>`}
    </section>
  </div>`;
}

// colour resolves a token for the canvas, which knows no light-dark().
function colour(el, token) {
  el.style.color = `var(${token})`;
  const c = getComputedStyle(el).color;
  el.style.color = '';
  return c;
}

function Chart({ width, from, to }) {
  const place = useRef();
  const plot = useRef();
  const inner = width - 28; // the panel's padding
  const narrow = inner < 480;
  useEffect(() => {
    const make = () => {
      plot.current?.destroy();
      const el = place.current;
      const [line, dim, grid, fill] = ['--accent', '--dim', '--line', '--accent-soft'].map((t) => colour(el, t));
      const font = `12px ${getComputedStyle(el).fontFamily}`;
      plot.current = new uPlot({
        width: inner,
        height: chartHeight,
        padding: [10, right, 0, 0],
        legend: { show: false },
        cursor: { y: false, points: { size: 6 }, drag: { x: false, y: false } },
        scales: { x: { time: true, auto: false }, y: { range: (_, lo, hi) => [0, Math.max(10, hi * 1.15 || 0)] } },
        axes: [
          { stroke: dim, font, grid: { stroke: grid, width: 1 }, ticks: { stroke: grid }, values: (_, ticks) => ticks.map((t) => clockTime(t * 1000).slice(0, minutes.peek() > 15 || narrow ? 5 : 8)), space: narrow ? 44 : 64, size: 34 },
          { stroke: dim, font, grid: { stroke: grid, width: 1 }, ticks: { show: false }, size: gutter, values: (_, ticks) => ticks.map((t) => rate(t) + '/s') },
        ],
        series: [{}, { label: 'messages/s', stroke: line, width: 1.5, fill, points: { show: false }, spanGaps: false }],
      }, [[], []], el);
      draw.current();
    };
    make();
    const scheme = matchMedia('(prefers-color-scheme: dark)');
    addEventListener('wiber-theme', make);
    scheme.addEventListener('change', make);
    return () => {
      removeEventListener('wiber-theme', make);
      scheme.removeEventListener('change', make);
      plot.current?.destroy();
      plot.current = null;
    };
  }, []);
  const draw = useRef();
  draw.current = () => {
    const u = plot.current;
    if (!u) return;
    const [xs, ys] = series(samples.value, from, to);
    u.setData([xs, ys], false);
    u.setScale('x', { min: from / 1000, max: to / 1000 });
  };
  useEffect(() => draw.current());
  useEffect(() => {
    plot.current?.setSize({ width: inner, height: chartHeight });
  }, [inner]);
  const last = samples.value.at(-1);
  return html`<div class="chart">
    <p class="charthead"><b>Throughput</b> <span class="num">${last ? rate(last[1]) : '–'} messages/s</span> <span class="hint">measured since this page was opened</span></p>
    <div class="plot" ref=${place} role="img" aria-label="Messages per second${last ? `, now ${rate(last[1])}` : ''}"></div>
  </div>`;
}

// series thins samples to what can be seen and breaks the line where none were taken.
function series(all, from, to) {
  const inside = all.filter(([t]) => t >= from - 10000 && t <= to + 1000);
  const step = Math.max(1, Math.ceil(inside.length / 900));
  const xs = [];
  const ys = [];
  let before = 0;
  for (let i = 0; i < inside.length; i += step) {
    const part = inside.slice(i, i + step);
    const t = part[0][0];
    if (before && t - before > 15000 * step) {
      xs.push((before + 1) / 1000);
      ys.push(null);
    }
    xs.push(t / 1000);
    ys.push(Math.max(...part.map((s) => s[1])));
    before = part.at(-1)[0];
  }
  return [xs, ys];
}

// runs are the times in which a node's process lived, as its events tell it.
export function runs(all, id, upNow, startedAt, to) {
  const spans = [];
  let since = null;
  let last = -Infinity;
  for (const e of all) {
    if (e.kind !== 'Node' || e.object !== id) continue;
    // A run whose end nobody saw ends with the last that was heard of it.
    if (e.reason === 'Started' && since !== null) {
      spans.push([since, last]);
      since = null;
    }
    if (/^(Started|Adopted|Ready)$/.test(e.reason)) since ??= e.reason === 'Adopted' ? -Infinity : e.at;
    last = e.at;
    if (e.reason === 'Exited') {
      spans.push([since ?? -Infinity, e.at]);
      since = null;
    }
  }
  if (upNow) spans.push([since ?? (startedAt || -Infinity), to]);
  return spans;
}

function Lanes({ width, from, to, shown }) {
  const inner = width - 28;
  const w = inner - gutter - right;
  const x = (t) => gutter + (w * (Math.min(to, Math.max(from, t)) - from)) / (to - from);
  const lanes = [{ id: '', name: 'cluster' }, ...nodes.value.map((n) => ({ id: n.metadata.name, name: n.metadata.name, node: n }))];
  const laneOf = (e) => Math.max(0, lanes.findIndex((l) => l.id && l.id === (e.reason === 'LeaderChanged' ? '' : nodeOf(e, nodes.value))));
  const height = lanes.length * laneHeight;
  return html`<svg class="lanes" width=${inner} height=${height} viewBox="0 0 ${inner} ${height}" role="group" aria-label="Events by node">
    ${lanes.map((l, i) => {
      const y = i * laneHeight + laneHeight / 2;
      return html`<g key=${l.name}>
        <text class="lane" x=${gutter - 12} y=${y + 4} text-anchor="end">${l.name}</text>
        <line class="laneline" x1=${gutter} x2=${gutter + w} y1=${y} y2=${y} />
        ${l.node && runs(events.value, l.id, !!l.node.status?.pid, Date.parse(l.node.status?.startedAt), to).map(([a, b]) =>
          b > from && a < to && html`<rect class="run" x=${x(a)} width=${Math.max(1, x(b) - x(a))} y=${y - 7} height="14" rx="3" />`)}
      </g>`;
    })}
    ${shown.map((e) => html`<${Mark} key=${e.key} e=${e} x=${x(e.at)} x0=${x(e.first)} y=${laneOf(e) * laneHeight + laneHeight / 2} />`)}
  </svg>`;
}

function Mark({ e, x, x0, y }) {
  const [, tone] = eventSign(e);
  const link = eventLink(e);
  const label = `${clockTime(e.at, true)} ${e.object} ${e.reason}: ${e.message}`;
  const shape = e.reason === 'LeaderChanged' ? html`<path d="M${x} ${y - 8}l7 8-7 8-7-8z" />` : e.warning ? html`<path d="M${x} ${y - 8}l8 14h-16z" />` : html`<circle cx=${x} cy=${y} r="4" />`;
  const body = html`<title>${label}</title>${x - x0 > 2 && html`<line class="often" x1=${x0} x2=${x} y1=${y} y2=${y} />`}<rect class="hit" x=${x - 9} y=${y - 12} width="18" height="24" />${shape}`;
  if (!link) return html`<g class="mark tone-${tone}" role="img" aria-label=${label}>${body}</g>`;
  return html`<a class="mark tone-${tone}" href=${link} aria-label=${label} onClick=${(ev) => { ev.preventDefault(); go(link); }}>${body}</a>`;
}
