// What arrives in a topic while one looks, newest first.
import { html, useEffect, useMemo, useState } from '../lib/html.js';
import { count } from '../lib/format.js';
import { Arrivals } from '../data/messages.js';
import { topics } from '../data/topics.js';
import { Messages } from './message.js';

const shown = 100;

export function Arriving({ name }) {
  const arrivals = useMemo(() => new Arrivals(name), [name]);
  useEffect(() => () => arrivals.close(), [arrivals]);
  const [frozen, setFrozen] = useState(null); // {messages, count}
  const messages = frozen ? frozen.messages : arrivals.messages.value;
  const waiting = frozen ? arrivals.count - frozen.count : 0;
  arrivals.messages.value;
  const pause = () => setFrozen(frozen ? null : { messages: arrivals.messages.value, count: arrivals.count });
  useEffect(() => {
    const onKey = (e) => {
      if (e.detail !== 'p') return;
      e.preventDefault();
      pause();
    };
    addEventListener('wiber-key', onKey);
    return () => removeEventListener('wiber-key', onKey);
  });
  const s = arrivals.state.value;
  const many = (topics.value?.find((t) => t.name === name)?.partitions.length ?? 1) > 1;
  return html`<div class="toolbar">
      <span class=${s === 'live' ? 'tone-ok' : 'tone-busy'} role="status">${s === 'live' ? '● Listening' : s === 'down' ? '◌ Connecting again; nothing is missed' : '◌ Connecting'}</span>
      <span class="num dim grow">${arrivals.count ? `${count(arrivals.count)} while you watch` : ''}</span>
      <button class="small pause" aria-pressed=${!!frozen} onClick=${pause}>${frozen ? `Go on${waiting ? ` · ${count(waiting)} new` : ''}` : 'Pause'}</button>
    </div>
    <${Messages} list=${messages.slice(0, shown)} many=${many} fresh=${!frozen} />
    ${messages.length === 0 && html`<p class="blank">Nothing has arrived yet while you watch. What is there already is under History.</p>`}
    ${messages.length > shown && html`<p class="dim more">The newest ${shown}; earlier ones are under History.</p>`}`;
}
