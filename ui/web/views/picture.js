// The cluster as a picture: nodes on a ring, a line for each pair, drawn in the
// pixels of its place so that text keeps its size.
import { html, useLayoutEffect, useRef, useState } from '../lib/html.js';
import { count, micros, rate } from '../lib/format.js';
import { isKnown, look, words } from '../lib/phase.js';
import { to } from '../lib/router.js';
import { total } from '../data/topics.js';
import { groupName } from './groups.js';

// place returns the middle of each of n cards in a box, and their size.
export function place(n, width, height) {
  const narrow = width < 560;
  let [w, h] = [216, 108];
  if (narrow) [w, h] = n > 5 ? [76, 50] : n > 3 ? [108, 66] : [Math.min(156, (width - 40) / 2), 96];
  else if (n > 5) [w, h] = [132, 72];
  if (n === 1) return { w, h, at: [{ x: width / 2, y: height / 2 }] };
  const rx = Math.min((width - w) / 2 - 8, narrow ? 1000 : 300);
  const ry = (height - h) / 2 - 8;
  if (n === 2) return { w, h, at: [-1, 1].map((s) => ({ x: width / 2 + s * Math.min(rx, 220), y: height / 2 })) };
  const at = Array.from({ length: n }, (_, i) => {
    const a = -Math.PI / 2 + (2 * Math.PI * i) / n;
    return { x: width / 2 + rx * Math.cos(a), y: height / 2 + ry * Math.sin(a) };
  });
  // An odd ring reaches neither the bottom nor the sides: stretch it over both, so
  // that a line between two cards has room to be seen.
  const low = Math.max(...at.map((p) => p.y));
  const right = Math.max(...at.map((p) => p.x));
  const [across, down] = [rx / (right - width / 2), (height - h - 16) / (low - at[0].y)];
  for (const p of at) {
    p.x = width / 2 + (p.x - width / 2) * across;
    p.y = at[0].y + (p.y - at[0].y) * down;
  }
  return { w, h, at };
}

// linkState says of a pair which ends have lost the other. A connection to a
// process that hangs stays open, so gossip's doubt counts as well.
function linkState(a, b, statuses) {
  const broken = [];
  for (const [from, dest] of [[a, b], [b, a]]) {
    const data = statuses.get(from)?.data;
    const link = data?.links?.find((l) => l.node === dest);
    const gossip = data?.gossip?.find((g) => g.node === dest);
    if ((link && !link.up) || /^(suspect|dead)$/.test(gossip?.state)) broken.push(`${from}→${dest}`);
  }
  return broken;
}

export function Picture({ nodes, groups, statuses }) {
  const ref = useRef();
  const [size, setSize] = useState(null);
  useLayoutEffect(() => {
    const measure = () => setSize([ref.current.clientWidth, ref.current.clientHeight]);
    measure();
    const observer = new ResizeObserver(measure);
    observer.observe(ref.current);
    return () => observer.disconnect();
  }, []);
  return html`<div class="picture" ref=${ref}>${size && nodes.length > 0 && html`<${Drawing} ...${{ nodes, groups, statuses, width: size[0], height: size[1] }} />`}</div>`;
}

function Drawing({ nodes, groups, statuses, width, height }) {
  const { w, h, at } = place(nodes.length, width, height);
  const lines = [];
  const labels = []; // over the cards
  nodes.forEach((a, i) => {
    for (let j = i + 1; j < nodes.length; j++) {
      const b = nodes[j];
      const [an, bn] = [a.metadata.name, b.metadata.name];
      const off = !a.status?.pid || !b.status?.pid;
      const broken = off ? [] : linkState(an, bn, statuses);
      const p = at[i];
      const q = at[j];
      lines.push(html`<line key=${an + bn} x1=${p.x} y1=${p.y} x2=${q.x} y2=${q.y} class=${broken.length ? 'link broken' : off ? 'link off' : 'link'} />`);
      if (broken.length > 0) labels.push(html`<${Broken} key=${an + bn} x=${(p.x + q.x) / 2} y=${(p.y + q.y) / 2} text=${broken.join(' ')} />`);
    }
  });
  return html`<svg width=${width} height=${height} viewBox="0 0 ${width} ${height}" role="group" aria-label="The nodes of the cluster">
    ${lines}
    ${nodes.length > 2 && html`<${Middle} x=${width / 2} y=${(Math.min(...at.map((p) => p.y)) + Math.max(...at.map((p) => p.y))) / 2 + (nodes.length === 3 ? h / 2 : 0)} />`}
    ${nodes.map((n, i) => html`<${Card} key=${n.metadata.name} node=${n} x=${at[i].x - w / 2} y=${at[i].y - h / 2} w=${w} h=${h} groups=${groups} status=${statuses.get(n.metadata.name)?.data} />`)}
    ${labels}
  </svg>`;
}

// Middle is the throughput of the whole, where the ring leaves room.
function Middle({ x, y }) {
  const r = total.value;
  return r !== undefined && html`<g class="middle">
    <rect x=${x - 52} y=${y - 26} width="104" height="46" rx="8" />
    <text class="big" x=${x} y=${y} text-anchor="middle">${rate(r)}</text>
    <text x=${x} y=${y + 16} text-anchor="middle">messages/s</text>
  </g>`;
}

function Broken({ x, y, text }) {
  const w = text.length * 7 + 30;
  return html`<g class="brokenlabel">
    <rect x=${x - w / 2} y=${y - 11} width=${w} height="22" rx="11" />
    <text x=${x} y=${y + 4} text-anchor="middle">✕ ${text}</text>
  </g>`;
}

function Card({ node, x, y, w, h, groups, status }) {
  const id = node.metadata.name;
  const s = node.status || {};
  const [sign, tone] = look(node);
  const leads = groups.filter((g) => g.leader === id && s.pid).map((g) => g.id);
  const small = h < 90;
  const tiny = w < 120;
  const big = h > 100;
  const low = big ? 8 : 0; // the lines below the cells are lower by this
  const clock = status?.clock;
  const says = words(node);
  const known = isKnown(node) ? { term: count(s.term || 0), lag: count(s.lag || 0) } : { term: '–', lag: '–' };
  const label = `${id}: ${says}${leads.length ? `, leads ${leads.map(groupName).join(', ')}` : ''}${isKnown(node) ? `, lag ${known.lag}` : ''}`;
  const cut = Math.floor((w - 62) / 6.6);
  return html`<g class="card tone-${tone}">
    <a href=${to('node', id)} aria-label=${label}><title>${label}</title><rect class="body" x=${x} y=${y} width=${w} height=${h} rx="8" /></a>
    <g class="face" aria-hidden="true">
    <text x=${x + 12} y=${y + 22} class="sign">${sign}</text>
    <text x=${x + 28} y=${y + 22} class="id">${id}</text>
    ${!tiny && html`<text x=${x + w - 12} y=${y + 22} text-anchor="end" class="state">${short(node, says, cut)}</text>`}
    <${Cells} x=${x + 12} y=${y + (h < 60 ? 28 : small ? 31 : 34)} w=${w - 24} h=${h < 60 ? 14 : big ? 26 : 20} groups=${groups} leads=${leads} />
    ${!small && html`<text x=${x + 12} y=${y + 70 + low} class="num">term ${known.term} · lag ${known.lag}</text>`}
    ${!small && html`<text x=${x + 12} y=${y + 86 + low} class="num dim">${!isKnown(node) ? `restarts ${count(s.restarts || 0)}` : clock ? (w < 170 ? clockWords(clock).replace('clock ', '') : clockWords(clock)) : ''}</text>`}
    ${small && !tiny && html`<text x=${x + 12} y=${y + 67} class="num">lag ${known.lag}</text>`}</g>
  </g>`;
}

// short keeps a countdown when the whole sentence has no room.
function short(node, says, cut) {
  if (says.length <= cut) return says;
  const n = /\d+( s|\S+)$/.exec(says);
  return n ? `${says.split(/[ ,]/)[0]}, ${n[0]}` : says.split(/[ ,]/)[0];
}

export function clockWords(clock) {
  if (!clock || clock.eps === undefined) return '';
  if (clock.eps < 0) return 'clock unsynchronised';
  return `clock ${micros(clock.offsetMicros || 0, true)} ± ${micros(clock.eps)}`;
}

// Cells are the groups in a row: filled where the node leads.
function Cells({ x, y, w, h, groups, leads }) {
  const gap = 3;
  const cell = Math.min(h > 20 ? 30 : 22, (w - gap * (groups.length - 1)) / groups.length);
  if (cell < 6) return html`<text x=${x} y=${y + 14} class="num">leads ${leads.length} of ${groups.length}</text>`;
  return groups.map((g, i) => {
    const on = leads.includes(g.id);
    return html`<g class=${on ? 'cell on' : 'cell'}>
      <rect x=${x + i * (cell + gap)} y=${y} width=${cell} height=${h} rx="3" />
      ${cell > 13 && h > 18 && html`<text x=${x + i * (cell + gap) + cell / 2} y=${y + h / 2 + 4} text-anchor="middle">${g.id === 'catalogue' ? 'C' : g.id}</text>`}
    </g>`;
  });
}
