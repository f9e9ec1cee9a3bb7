// The topics: one line each, with a filter.
import { html, signal, useEffect, useRef } from '../lib/html.js';
import { count, plural, rate } from '../lib/format.js';
import { go, to } from '../lib/router.js';
import { messagesIn, rateOf, topics, topicsError, topicsState, total } from '../data/topics.js';

const most = 200; // lines; a filter finds the others
const filter = signal('');

export function TopicsView() {
  const field = useRef();
  useEffect(() => {
    const onKey = (e) => {
      if (e.detail !== '/') return;
      e.preventDefault();
      field.current.focus();
    };
    addEventListener('wiber-key', onKey);
    return () => removeEventListener('wiber-key', onKey);
  }, []);
  const all = topics.value;
  const typed = filter.value.trim();
  const found = all ? all.filter((t) => t.name.includes(typed)) : [];
  const valid = /^[A-Za-z0-9._-]{1,249}$/.test(typed);
  return html`<div class="view topics">
    <div class="viewhead">
      <h1>Topics</h1>
      <form class="find" onSubmit=${(e) => { e.preventDefault(); if (valid) go(to('topic', found.length === 1 ? found[0].name : typed)); }}>
        <input ref=${field} type="search" placeholder="Filter, or a new topic’s name" aria-label="Filter topics" value=${typed} onInput=${(e) => (filter.value = e.target.value)} />
      </form>
      <span class="num dim grow">${all ? `${plural(all.length, 'topic')} · ${rate(total.value)} messages/s` : ''}</span>
    </div>
    <section class="panel scroll" tabindex="0" role="region" aria-label="Topics">
      <table class="topiclist">
        <thead><tr><th scope="col">Topic</th><th scope="col" class="n">Messages</th><th scope="col" class="n">per second</th><th scope="col" class="n">Partitions</th><th scope="col">Led by</th></tr></thead>
        <tbody>${found.slice(0, most).map((t) => html`<${Row} key=${t.name} topic=${t} />`)}</tbody>
      </table>
      ${found.length > most && html`<p class="dim more">${count(most)} of ${count(found.length)}; a filter finds the others.</p>`}
      <${Nothing} all=${all} found=${found} typed=${typed} valid=${valid} />
    </section>
  </div>`;
}

function Row({ topic }) {
  const leaders = [...new Set(topic.partitions.map((p) => p.leader))];
  const r = rateOf(topic.name);
  return html`<tr>
    <th scope="row"><a href=${to('topic', topic.name)}>${topic.name}</a></th>
    <td class="n">${count(messagesIn(topic))}</td>
    <td class="n ${r > 0 ? '' : 'dim'}">${rate(r)}</td>
    <td class="n">${count(topic.partitions.length)}</td>
    <td>${leaders.map((l, i) => html`${i ? ', ' : ''}${l ? html`<a href=${to('node', l)}>${l}</a>` : html`<span class="tone-bad">▲ nobody</span>`}`)}</td>
  </tr>`;
}

function Nothing({ all, found, typed, valid }) {
  if (found.length > 0) return null;
  if (topicsState.value === 'down') return html`<p class="blank" role="status">The topics cannot be read: ${topicsError.value.message}. The page tries again by itself.</p>`;
  if (!all) return html`<p class="blank" role="status">Loading…</p>`;
  if (typed && valid) return html`<p class="blank">No topic has that in its name. <a href=${to('topic', typed)}>Publish to ${typed}</a> makes it.</p>`;
  if (typed) return html`<p class="blank">No topic has that in its name, and it is no name of a topic: letters, digits, dot, _ and -.</p>`;
  return html`<p class="blank">There are no topics yet. The first message makes one: <a href=${to('topic', 'greetings')}>publish to greetings</a>.</p>`;
}
