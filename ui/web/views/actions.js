// What can be done to a node. The server decides; its refusal is shown as it is,
// with the way round it where there is one.
import { effect, html, signal } from '../lib/html.js';
import { act, clusterName, nodes, startAll, stopAll } from '../data/objects.js';
import { isReady } from '../lib/phase.js';
import { confirm } from './dialog.js';

const running = signal(new Map()); // node -> what is being done
const refused = signal(new Map()); // node -> {what, message, force}
effect(() => {
  clusterName.value; // of another cluster's nodes nothing is said
  refused.value = new Map();
});

function set(map, id, value) {
  const next = new Map(map.value);
  if (value) next.set(id, value);
  else next.delete(id);
  map.value = next;
}

// costsQuorum: without this node fewer than a majority would run.
function costsQuorum(id) {
  const all = nodes.peek();
  const up = all.filter(isReady);
  return up.some((n) => n.metadata.name === id) && up.length - 1 < Math.floor(all.length / 2) + 1 && up.length >= Math.floor(all.length / 2) + 1;
}

const doing = { kill: 'Killing…', hold: 'Killing…', restart: 'Restarting…', stop: 'Stopping…', start: 'Starting…' };

// perform does one action and keeps what came of it for all who show the node.
export async function perform(id, what, query = {}) {
  if (running.peek().has(id)) return;
  if ((what === 'kill' || what === 'hold' || what === 'stop') && costsQuorum(id)) {
    const all = nodes.peek().length;
    const sure = await confirm({
      title: `Take ${id} down?`,
      text: all === 1
        ? 'It is the only node: nothing can be published or read until it runs again.'
        : `Without ${id} fewer than a majority of the ${all} nodes run: nothing can be published until enough run again.`,
      yes: what === 'stop' ? `Stop ${id}` : `Kill ${id}`,
    });
    if (!sure) return;
  }
  set(running, id, what);
  set(refused, id, null);
  try {
    if (what === 'hold') await act(id, 'kill', { hold: true });
    else await act(id, what, query);
  } catch (err) {
    set(refused, id, { what, message: err.message, force: what === 'restart' && err.status === 409 && !query.force });
  } finally {
    set(running, id, null);
  }
}

// performAll starts or stops every node; what comes of it is kept under ''.
export async function performAll(what) {
  if (running.peek().has('')) return;
  if (what === 'stop' && !(await confirm({ title: 'Stop all nodes?', text: 'Nothing can be published or read until they are started again. The data stays.', yes: 'Stop all' }))) return;
  set(running, '', what);
  set(refused, '', null);
  try {
    await (what === 'stop' ? stopAll() : startAll());
  } catch (err) {
    set(refused, '', { what, message: err.message });
  } finally {
    set(running, '', null);
  }
}

// Actions are the buttons; which of them make sense follows from the phase.
export function Actions({ node, all = false }) {
  const id = node.metadata.name;
  const busy = running.value.get(id);
  const { pid, phase } = node.status || {};
  const down = !pid;
  const button = (what, text, title, kind = '') =>
    html`<button class="small ${kind}" disabled=${!!busy} title=${title} onClick=${() => perform(id, what)} aria-label=${`${text} ${id}`}>${busy === what ? doing[what] : text}</button>`;
  return html`<span class="actions" role="group" aria-label=${`Actions on ${id}`}>
    ${down && button('start', 'Start', phase === 'CrashLoopBackOff' ? 'Start it now, without waiting' : 'Start the node')}
    ${!down && button('kill', 'Kill', 'SIGKILL now, as a fault: the controller starts it again', 'danger')}
    ${!down && all && button('hold', 'Hold down', 'Kill it and keep it down until it is started', 'danger')}
    ${!down && button('restart', 'Restart', 'Drain, stop and start it, if the quorum allows')}
    ${all && !(down && node.spec?.stopped) && button('stop', 'Stop', 'Drain and stop it; it stays stopped')}
  </span>`;
}

// Refusal says why the last action was not done.
export function Refusal({ id }) {
  const r = refused.value.get(id);
  return r && html`<p class="refusal" role="alert">
    <span>${r.what === 'hold' ? 'kill' : r.what} ${id || 'all'}: ${r.message}</span>
    ${r.force && html`<button class="small danger" onClick=${() => perform(id, 'restart', { force: true })}>Restart anyway</button>`}
    <button class="small quiet" aria-label="Dismiss" onClick=${() => set(refused, id, null)}>✕</button>
  </p>`;
}
