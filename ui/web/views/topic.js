// One topic: publish to it, see what arrives, and read what is there.
import { html } from '../lib/html.js';
import { count, plural, rate } from '../lib/format.js';
import { go, route, to } from '../lib/router.js';
import { messagesIn, rateOf, topics, topicsState } from '../data/topics.js';
import { Arriving } from './arriving.js';
import { Browser } from './browser.js';
import { Publish } from './publish.js';

export function TopicView({ name }) {
  const topic = topics.value?.find((t) => t.name === name);
  const shows = route.value.query.get('show') === 'history' ? 'history' : 'live';
  const tab = (what, word) => html`<a role="tab" id="tab-${what}" aria-selected=${shows === what} aria-controls="tabpanel" class=${shows === what ? 'here' : ''}
    href=${to('topic', name, what === 'live' ? undefined : { show: what })} onClick=${(e) => { e.preventDefault(); go(to('topic', name, what === 'live' ? undefined : { show: what }), true); }}>${word}</a>`;
  return html`<div class="view topic">
    <div class="viewhead">
      <h1><a class="up" href=${to('topics')}>Topics</a> <span class="dim">/</span> ${name}</h1>
      <span class="num dim grow">${topic ? `${plural(messagesIn(topic), 'message')} · ${rate(rateOf(name))}/s · ${plural(topic.partitions.length, 'partition')}` : topicsState.value === 'live' ? 'not there yet: the first message makes it' : ''}</span>
    </div>
    <div class="columns">
      <div class="side">
        <${Publish} name=${name} topic=${topic} key=${name} />
        ${topic && html`<${Partitions} topic=${topic} />`}
      </div>
      <section class="panel messages">
        <div class="tabs" role="tablist" aria-label="Messages">${tab('live', 'Arriving')}${tab('history', 'History')}</div>
        <div id="tabpanel" role="tabpanel" aria-labelledby="tab-${shows}">
          ${shows === 'live' ? html`<${Arriving} name=${name} key=${name} />` : html`<${Browser} name=${name} topic=${topic} key=${name} />`}
        </div>
      </section>
    </div>
  </div>`;
}

function Partitions({ topic }) {
  return html`<section class="panel partitions" aria-labelledby="partitions-h">
    <h2 id="partitions-h">Partitions</h2>
    <div class="scroll tall" tabindex="0" role="region" aria-labelledby="partitions-h"><table>
      <thead><tr><th scope="col" class="n">No.</th><th scope="col" class="n">Shard</th><th scope="col">Leader</th><th scope="col" class="n">First</th><th scope="col" class="n">Next</th></tr></thead>
      <tbody>${topic.partitions.map((p) => html`<tr key=${p.partition}><td class="n">${p.partition}</td><td class="n">${p.shard}</td>
        <td>${p.leader ? html`<a href=${to('node', p.leader)}>${p.leader}</a>` : html`<span class="tone-bad">▲ nobody</span>`}</td><td class="n">${count(p.first)}</td><td class="n">${count(p.next)}</td></tr>`)}</tbody>
    </table></div>
  </section>`;
}
