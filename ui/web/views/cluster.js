// The first view: the cluster at a glance, and what can be done to its nodes.
import { html, useEffect } from '../lib/html.js';
import { since } from '../lib/format.js';
import { Phase, reason } from '../lib/phase.js';
import { to } from '../lib/router.js';
import { cluster, nodes, second } from '../data/objects.js';
import { doubtsAbout, groupsOf, pollStatuses, statuses } from '../data/status.js';
import { Actions, performAll, Refusal } from './actions.js';
import { EventsPanel } from './events.js';
import { Clocks } from './clocks.js';
import { Groups } from './groups.js';
import { Picture } from './picture.js';

export function ClusterView() {
  useEffect(pollStatuses, []);
  second.value;
  const all = nodes.value;
  const said = statuses.value;
  const groups = groupsOf(all, said, cluster.value.spec?.shards || 0);
  return html`<div class="view cluster">
    <h1 class="sr">Cluster ${cluster.value.metadata.name}</h1>
    <div class="left">
      <${Picture} nodes=${all} groups=${groups} statuses=${said} />
      <${Groups} nodes=${all} groups=${groups} detailed=${said.size > 0} />
    </div>
    <div class="right">
      <section class="panel nodepanel" aria-labelledby="nodes-h">
        <div class="panelhead"><h2 id="nodes-h">Nodes</h2><${AllNodes} nodes=${all} /></div>
        <${Refusal} id="" />
        <ul class="nodes">${all.map((n) => html`<${Row} key=${n.metadata.name} node=${n} />`)}</ul>
      </section>
      <${Clocks} nodes=${all} statuses=${said} />
      <${EventsPanel} most=${12} />
    </div>
  </div>`;
}

// AllNodes are the buttons for every node at once.
function AllNodes({ nodes }) {
  const some = (test) => nodes.some(test);
  return html`<span class="actions">
    ${some((n) => !n.status?.pid) && html`<button class="small quiet" onClick=${() => performAll('start')}>Start all</button>`}
    ${some((n) => n.status?.pid) && html`<button class="small quiet" onClick=${() => performAll('stop')}>Stop all</button>`}
  </span>`;
}

function Row({ node }) {
  second.value; // a component that reads signals is drawn again only for them
  const id = node.metadata.name;
  const s = node.status || {};
  const doubts = s.pid ? doubtsAbout(id, statuses.value) : [];
  return html`<li>
    <div class="line">
      <a class="name" href=${to('node', id)}>${id}</a>
      <${Phase} node=${node} />
      <${Actions} node=${node} />
    </div>
    <p class="sub num">${reason(node) || (doubts.length > 0 && html`<span class="tone-bad">▲ ${doubts.join(', ')}</span>`) || html`${s.pid ? `pid ${s.pid} · up ${since(s.startedAt)} · ` : ''}restarts ${s.restarts || 0}`}</p>
    <${Refusal} id=${id} />
  </li>`;
}
