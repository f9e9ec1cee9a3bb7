// Package ui's page. Data comes from data/, one module per source, as signals;
// views/ shows it; lib/ is what both use. Start reading here.
import { effect, html, render, signal, useEffect } from './lib/html.js';
import { go, route, to } from './lib/router.js';
import { cluster, clusters, loaded, nodes, wanted } from './data/objects.js';
import { Banner, Header, turnTheme } from './views/frame.js';
import { Dialogs, helpOpen } from './views/dialog.js';
import { LoadingView, StartView } from './views/start.js';
import { ClusterView } from './views/cluster.js';
import { NodeView } from './views/node.js';
import { TopicView } from './views/topic.js';
import { TopicsView } from './views/topics.js';

// The timeline and its chart are loaded when they are wanted.
const timeline = signal(null); // {view} or {error}
function Timeline() {
  useEffect(() => {
    if (timeline.value?.view) return;
    import('./views/timeline.js').then((m) => (timeline.value = { view: m.TimelineView }), (error) => (timeline.value = { error }));
  }, []);
  const t = timeline.value;
  if (t?.view) return html`<${t.view} />`;
  return html`<div class="view empty" role="status"><h1>${t ? 'The timeline could not be loaded' : 'Loading…'}</h1>${t && html`<p>${t.error.message}. <button onClick=${() => location.reload()}>Load the page again</button></p>`}</div>`;
}

function View() {
  const { view, name } = route.value;
  const key = `${cluster.value?.metadata.name}/${name}`; // nothing of a node stays for its namesake
  if (!loaded.value) return html`<${LoadingView} />`;
  if (wanted.value && !cluster.value) {
    return html`<div class="view empty"><h1>There is no cluster ${wanted.value}</h1>
      <p>${clusters.value.length === 0 ? html`<a href="#/">To the start</a>` : html`There is ${clusters.value.map((c, i) => html`${i ? ', ' : ''}<a href=${to('cluster', '', { cluster: c.metadata.name })}>${c.metadata.name}</a>`)}.`}</p></div>`;
  }
  const stopped = !cluster.value || (nodes.value.length > 0 && nodes.value.every((n) => !n.status?.pid && n.spec?.stopped));
  if (stopped && (view === 'cluster' || !cluster.value)) return html`<${StartView} />`;
  switch (view) {
    case 'cluster':
      return html`<${ClusterView} />`;
    case 'node':
      return html`<${NodeView} id=${name} key=${key} />`;
    case 'topics':
      return html`<${TopicsView} />`;
    case 'topic':
      return html`<${TopicView} name=${name} key=${key} />`;
    case 'timeline':
      return html`<${Timeline} />`;
    default:
      return html`<div class="view empty"><h1>There is nothing at this address</h1><p><a href=${to('cluster')}>To the cluster</a></p></div>`;
  }
}

function App() {
  return html`<a class="skip" href="#main" onClick=${skip}>To the content</a><${Header} /><main id="main" tabindex="-1"><${View} /></main><${Banner} /><${Dialogs} />`;
}

// The fragment is the route, so the link to the content moves the focus itself.
function skip(e) {
  e.preventDefault();
  document.getElementById('main').focus();
}

// Shortcuts work where no field has the focus. Views add theirs by listening for
// wiber-key and calling preventDefault.
let prefix = '';
addEventListener('keydown', (e) => {
  if (e.ctrlKey || e.metaKey || e.altKey || document.querySelector('dialog[open]')) return;
  const field = e.target.closest?.('input, textarea, select');
  if (field) {
    if (e.key === 'Escape') field.blur();
    return;
  }
  const key = prefix + e.key;
  prefix = '';
  if (key === 'g') prefix = 'g ';
  else if (key === 'g c') go(to('cluster'));
  else if (key === 'g t') go(to('topics'));
  else if (key === 'g l') go(to('timeline'));
  else if (key === '?') helpOpen.value = true;
  else if (key === 'd') turnTheme();
  else if (/^[1-9]$/.test(key) && nodes.peek()[key - 1]) go(to('node', nodes.peek()[key - 1].metadata.name));
  else if (!dispatchEvent(new CustomEvent('wiber-key', { detail: key, cancelable: true }))) e.preventDefault();
  else return;
  if (key !== 'Escape') e.preventDefault();
});

effect(() => {
  const { view, name } = route.value;
  document.title = [name || (view === 'cluster' ? cluster.value?.metadata.name : view), 'Wiber'].filter(Boolean).join(' · ');
});

// A new view begins at its top, and has the focus, so that keys scroll it and a
// screen reader reads it.
let shown = '';
effect(() => {
  const { view, name } = route.value;
  if (shown && shown !== view + '/' + name) {
    const main = document.getElementById('main');
    main.scrollTop = 0;
    main.focus({ preventScroll: true });
  }
  shown = view + '/' + name;
});

const place = document.getElementById('app');
place.textContent = '';
render(html`<${App} />`, place);
