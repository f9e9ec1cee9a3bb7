// One node: its state, what can be done to it, and its output.
import { html, useEffect } from '../lib/html.js';
import { clockTime, count, since } from '../lib/format.js';
import { isKnown, Phase, reason } from '../lib/phase.js';
import { route, to } from '../lib/router.js';
import { cluster, nodes, second } from '../data/objects.js';
import { groupsOf, pollStatuses, statuses } from '../data/status.js';
import { Actions, Refusal } from './actions.js';
import { groupName } from './groups.js';
import { clockWords } from './picture.js';
import { Terminal } from './terminal.js';

export function NodeView({ id }) {
  useEffect(pollStatuses, []);
  second.value;
  const node = nodes.value.find((n) => n.metadata.name === id);
  if (!node) {
    return html`<div class="view empty"><h1>There is no node ${id}</h1>
      <p>The cluster ${cluster.value.metadata.name} has ${nodes.value.map((n, i) => html`${i ? ', ' : ''}<a href=${to('node', n.metadata.name)}>${n.metadata.name}</a>`)}.</p></div>`;
  }
  const at = Date.parse(route.value.query.get('at') || '');
  const moment = Number.isNaN(at) ? undefined : at;
  return html`<div class="view node">
    <header class="nodehead">
      <h1>${id}</h1>
      <span role="status"><${Phase} node=${node} /></span>
      <${Actions} node=${node} all />
    </header>
    <${Refusal} id=${id} />
    <${Facts} node=${node} />
    <${Terminal} id=${id} at=${moment} restarts=${(node.status?.incarnation || 1) - 1} />
  </div>`;
}

function Facts({ node }) {
  const id = node.metadata.name;
  const s = node.status || {};
  const leads = s.pid ? groupsOf(nodes.value, statuses.value, cluster.value.spec?.shards || 0).filter((g) => g.leader === id) : [];
  const clock = clockWords(statuses.value.get(id)?.data.clock);
  // What is said already is not said again.
  const doubts = s.pid ? (s.conditions || []).filter((c) => c.status !== 'True' && (c.message || c.reason) !== reason(node)) : [];
  const fact = (name, value, wide) => html`<div class=${wide ? 'wide' : ''}><dt>${name}</dt><dd>${value}</dd></div>`;
  return html`<dl class="facts">
    ${fact('pid', s.pid || '–')}
    ${fact('up', s.pid ? since(s.startedAt) : '–')}
    ${fact('restarts', count(s.restarts || 0))}
    ${fact('incarnation', s.incarnation || '–')}
    ${fact('term', isKnown(node) ? count(s.term || 0) : '–')}
    ${fact('lag', isKnown(node) ? count(s.lag || 0) : '–')}
    ${fact('leads', leads.length ? leads.map((g) => groupName(g.id)).join(', ') : isKnown(node) ? 'nothing' : '–', true)}
    ${clock && s.pid && fact('clock', clock.replace('clock ', ''), true)}
    ${s.lastTermination && fact('last end', `${s.lastTermination.signal || `exit code ${s.lastTermination.exitCode}`} at ${clockTime(Date.parse(s.lastTermination.at))}`, true)}
    ${reason(node) && fact('why', reason(node), true)}
    ${doubts.map((c) => fact(c.type, html`<span class="tone-busy">▲ ${c.message || c.reason || c.status}</span>`, true))}
  </dl>`;
}
