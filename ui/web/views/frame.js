// What is around every view: where one is, whether the page is connected, theme
// and help.
import { html, signal } from '../lib/html.js';
import { isReady, look } from '../lib/phase.js';
import { route, to, go } from '../lib/router.js';
import { cluster, clusters, condition, isTrue, live, loaded, nodes, second } from '../data/objects.js';
import { outage, tryNow } from '../data/link.js';
import { newer } from '../data/version.js';
import { helpOpen } from './dialog.js';

const root = document.documentElement;
const chosen = signal(root.dataset.theme || 'system');

// turnTheme goes round: as the system, light, dark.
export function turnTheme() {
  const order = { system: 'light', light: 'dark', dark: 'system' };
  chosen.value = order[chosen.value];
  try {
    if (chosen.value === 'system') {
      delete root.dataset.theme;
      localStorage.removeItem('wiber-theme');
    } else {
      root.dataset.theme = chosen.value;
      localStorage.setItem('wiber-theme', chosen.value);
    }
  } catch {
    // no storage: the choice lasts as long as the page
  }
  dispatchEvent(new Event('wiber-theme'));
}

const themeSigns = { system: '◐', light: '☀', dark: '☾' };

// views are the tabs: [view, word].
export const tabs = [['cluster', 'Cluster'], ['topics', 'Topics'], ['timeline', 'Timeline']];

export function Header() {
  const view = route.value.view === 'topic' ? 'topics' : route.value.view;
  return html`<header class="bar">
    <a class="brand" href=${to('cluster')}><svg viewBox="0 0 20 18" aria-hidden="true"><path d="M10 3 3 15h14z" /><circle cx="10" cy="3" r="2.6" /><circle cx="3" cy="15" r="2.6" /><circle cx="17" cy="15" r="2.6" /></svg>Wiber</a>
    <${Health} />
    <nav aria-label="Views">${tabs.map(([v, word]) => html`<a href=${to(v)} class=${view === v ? 'here' : ''} aria-current=${view === v ? 'page' : undefined}>${word}</a>`)}
      <${NodeTabs} />
    </nav>
    <span class="tools">
      <${Connection} />
      <button class="icon" onClick=${turnTheme} title="Theme (d): ${chosen.value}" aria-label="Theme: ${chosen.value}">${themeSigns[chosen.value]}</button>
      <button class="icon" onClick=${() => (helpOpen.value = true)} title="Keyboard shortcuts (?)" aria-label="Keyboard shortcuts">?</button>
    </span>
  </header>`;
}

function NodeTabs() {
  const { view, name } = route.value;
  return nodes.value.map((n) => {
    const [sign, tone] = look(n);
    const here = view === 'node' && name === n.metadata.name;
    return html`<a key=${n.metadata.name} href=${to('node', n.metadata.name)} class="tab-node ${here ? 'here' : ''}" aria-current=${here ? 'page' : undefined}><span class="sign tone-${tone}" aria-hidden="true">${sign}</span>${n.metadata.name}</a>`;
  });
}

// Health is the cluster in a word.
function Health() {
  const { view } = route.value;
  const c = cluster.value;
  if (!loaded.value || !c) return html`<span class="health"></span>`;
  const all = nodes.value;
  const up = all.filter(isReady).length;
  const ready = isTrue(c, 'Ready');
  const quorum = condition(c, 'QuorumAvailable')?.status !== 'False';
  const [sign, tone, word] = ready ? ['●', 'ok', 'Ready'] : up === 0 && all.every((n) => !n.status?.pid) ? ['○', 'off', 'Stopped'] : quorum ? ['◐', 'busy', 'Degraded'] : ['▲', 'bad', 'No quorum'];
  return html`<span class="health">
    ${clusters.value.length > 1
      ? html`<select aria-label="Cluster" value=${c.metadata.name} onChange=${(e) => go(to(tabs.some(([v]) => v === view) ? view : 'cluster', '', { cluster: e.target.value }))}>${clusters.value.map((x) => html`<option>${x.metadata.name}</option>`)}</select>`
      : html`<b>${c.metadata.name}</b>`}
    <span class="tone-${tone}" role="status" title=${condition(c, 'Degraded')?.message || ''}><span class="sign" aria-hidden="true">${sign}</span> ${word} <span class="num">${up}/${all.length}</span></span>
  </span>`;
}

function Connection() {
  return live.value && !outage.value
    ? html`<span class="conn tone-ok" title="What is shown is live"><span class="sign" aria-hidden="true">●</span> Live</span>`
    : html`<span class="conn tone-busy"><span class="sign" aria-hidden="true">◌</span> ${loaded.value ? 'Offline' : 'Connecting'}</span>`;
}

// Banner lies over the page, so nothing moves when it comes and goes. The
// countdown is not read aloud; that the connection is gone is.
export function Banner() {
  second.value;
  const o = outage.value;
  if (!o) {
    return html`<div class="banner-place" role="status">${newer.value && html`<div class="banner">This page is older than the controller. <button class="small" onClick=${() => location.reload()}>Load the new one</button></div>`}</div>`;
  }
  const s = Math.max(0, Math.ceil((o.retryAt - Date.now()) / 1000));
  return html`<div class="banner-place" role="status"><div class="banner bad">
    <span>▲ The connection to the controller is lost; what you see is the last that was known.</span>
    <span class="num" aria-hidden="true">Trying again ${s > 0 ? `in ${s} s` : 'now'}.</span>
    <button class="small" onClick=${tryNow}>Try now</button>
  </div></div>`;
}
