// The clocks: each node's offset from the cluster's time, with the bar of its
// uncertainty, all on one scale.
import { html } from '../lib/html.js';
import { micros } from '../lib/format.js';

// scale is a round number of microseconds that holds every bar.
export function scale(clocks) {
  const far = Math.max(100, ...clocks.filter((c) => c.eps >= 0).map((c) => Math.abs(c.offsetMicros || 0) + c.eps));
  const p = 10 ** Math.floor(Math.log10(far));
  return [1, 2, 5, 10].find((m) => m * p >= far) * p;
}

export function Clocks({ nodes, statuses }) {
  const rows = nodes.map((n) => ({ id: n.metadata.name, up: !!n.status?.pid, clock: statuses.get(n.metadata.name)?.data.clock }));
  const known = rows.filter((r) => r.clock && r.clock.eps !== undefined).map((r) => r.clock);
  const max = scale(known);
  return html`<section class="panel clockpanel" aria-labelledby="clocks-h">
    <h2 id="clocks-h">Clocks <span class="hint">offset from the cluster’s time</span></h2>
    <ul class="clocks">${rows.map((r) => html`<li key=${r.id}>
      <b>${r.id}</b>
      <${Bar} clock=${r.up ? r.clock : null} max=${max} />
      <span class="num">${!r.clock || !r.up ? '–' : r.clock.eps < 0 ? html`<span class="tone-bad">▲ unsynchronised</span>` : html`${micros(r.clock.offsetMicros || 0, true)} <span class="dim">± ${micros(r.clock.eps)}</span>`}</span>
    </li>`)}
    <li class="axis" aria-hidden="true"><span></span><span class="ends"><i>${micros(-max)}</i><i>0</i><i>${micros(max, true)}</i></span><span></span></li></ul>
  </section>`;
}

function Bar({ clock, max }) {
  if (!clock || !(clock.eps >= 0)) return html`<svg class="errorbar" viewBox="-100 -10 200 20" preserveAspectRatio="none" aria-hidden="true"><line class="zero" x1="0" x2="0" y1="-10" y2="10" /></svg>`;
  const x = (us) => (100 * us) / max;
  const o = clock.offsetMicros || 0;
  return html`<svg class="errorbar" viewBox="-100 -10 200 20" preserveAspectRatio="none" aria-hidden="true">
    <line class="base" x1="-100" x2="100" y1="0" y2="0" /><line class="zero" x1="0" x2="0" y1="-10" y2="10" />
    <rect class="eps" x=${x(o - clock.eps)} width=${Math.max(1, x(2 * clock.eps))} y="-4" height="8" />
    <line class="point" x1=${x(o)} x2=${x(o)} y1="-8" y2="8" />
  </svg>`;
}
