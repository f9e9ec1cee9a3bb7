// The raft groups: who leads, and how far the others are behind.
import { html } from '../lib/html.js';
import { count } from '../lib/format.js';
import { to } from '../lib/router.js';

export const groupName = (id) => (id === 'catalogue' ? 'catalogue' : `shard ${id}`);

export function Groups({ nodes, groups, detailed }) {
  const ids = nodes.map((n) => n.metadata.name);
  return html`<section class="panel grouppanel" aria-labelledby="groups-h">
    <h2 id="groups-h">Groups <span class="hint">who leads, and how many entries a follower is behind</span></h2>
    <div class="scroll" tabindex="0" role="region" aria-labelledby="groups-h">
      <table class="groups" style=${{ '--nodes': ids.length }}>
        <thead><tr><th scope="col">Group</th><th scope="col">Leader</th><th scope="col" class="n">Term</th><th scope="col" class="n">Commit</th>${ids.map((id) => html`<th scope="col" class="n">${id}</th>`)}</tr></thead>
        <tbody>${groups.map((g) => html`<tr key=${g.id}>
          <th scope="row">${groupName(g.id)}</th>
          <td>${g.leader ? html`<a href=${to('node', g.leader)}>${g.leader}</a>` : html`<span class="tone-bad">▲ none</span>`}</td>
          <td class="n">${g.term ? count(g.term) : '–'}</td>
          <td class="n">${g.commit ? count(g.commit) : '–'}</td>
          ${nodes.map((n) => html`<${Cell} key=${n.metadata.name} node=${n} group=${g} detailed=${detailed} />`)}
        </tr>`)}</tbody>
      </table>
    </div>
  </section>`;
}

function Cell({ node, group, detailed }) {
  const id = node.metadata.name;
  if (!node.status?.pid) return html`<td class="n dim">down</td>`;
  if (group.leader === id) return html`<td class="n lead">leads</td>`;
  const m = group.members.get(id);
  if (!detailed || !m) return html`<td class="n dim">–</td>`;
  if (m.active === false) return html`<td class="n tone-bad">▲ silent</td>`;
  const lag = m.lag ?? (m.applied === undefined ? undefined : Math.max(0, group.commit - m.applied));
  return html`<td class="n ${lag > 1000 ? 'tone-busy' : ''}">${count(lag)}</td>`;
}
