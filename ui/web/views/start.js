// What is shown while nothing runs, and while nothing is known yet.
import { html, signal } from '../lib/html.js';
import { cluster, loadError, startAll } from '../data/objects.js';

const starting = signal(false);
const failed = signal(null);

export async function start() {
  starting.value = true;
  failed.value = null;
  try {
    await startAll();
  } catch (err) {
    failed.value = err.message;
  } finally {
    starting.value = false;
  }
}

export function StartView() {
  const c = cluster.value;
  return html`<div class="view start">
    <svg class="ring" viewBox="0 0 120 104" aria-hidden="true"><path d="M60 18 24 82h72z" /><circle cx="60" cy="18" r="14" /><circle cx="24" cy="82" r="14" /><circle cx="96" cy="82" r="14" /></svg>
    <h1>${c ? `All nodes of ${c.metadata.name} are stopped` : 'No cluster runs yet'}</h1>
    <p>${c ? 'Its data is kept. Starting goes on where it was.' : 'Starting makes the built-in cluster: three nodes on this machine, with data in .data.'}</p>
    <button class="primary big" disabled=${starting.value} onClick=${start} autofocus>${starting.value ? 'Starting…' : 'Start the cluster'}</button>
    ${failed.value && html`<p class="refusal" role="alert">${failed.value}</p>`}
    <p class="dim">Or describe your own and run <code>wiberctl apply -f cluster.yaml</code>; it appears here by itself.</p>
  </div>`;
}

export function LoadingView() {
  const err = loadError.value;
  return html`<div class="view empty" role="status"><h1>${err ? 'The controller does not answer' : 'Loading…'}</h1>
    ${err && html`<p>${err.message}. The page tries again by itself; <code>wiberctl up</code> starts one.</p>`}</div>`;
}
