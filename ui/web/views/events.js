// Events as a list, newest first. A click goes to the output of that moment.
import { html } from '../lib/html.js';
import { clockTime, count, dayTime, now } from '../lib/format.js';
import { to } from '../lib/router.js';
import { events, eventsError, eventsState, nodeOf } from '../data/events.js';
import { nodes } from '../data/objects.js';

// eventLink is the address of the output that belongs to an event.
export function eventLink(e) {
  const node = nodeOf(e, nodes.peek());
  return node && to('node', node, { at: new Date(e.at).toISOString() });
}

export const eventSign = (e) => (e.reason === 'LeaderChanged' ? ['◆', 'accent'] : e.warning ? ['▲', 'bad'] : ['·', 'off']);

const freshFor = 10000; // ms in which an event is what just happened

export function EventRow({ event, day }) {
  const [sign, tone] = eventSign(event);
  const link = eventLink(event);
  const inside = html`<span class="when num">${day ? dayTime(event.at, true) : clockTime(event.at)}</span>
    <span class="sign tone-${tone}" aria-hidden="true">${sign}</span>
    <span class="what"><b>${event.object}</b> ${event.reason}${event.count > 1 ? html` <span class="dim">× ${count(event.count)}</span>` : ''} <span class="dim">${event.message}</span></span>`;
  return html`<li class=${now() - event.at < freshFor ? 'event fresh' : 'event'}>${link ? html`<a href=${link} title="To the output of that moment">${inside}</a>` : html`<span class="row">${inside}</span>`}</li>`;
}

// EventsPanel shows the last few.
export function EventsPanel({ most, filter }) {
  const all = events.value.filter(filter || (() => true));
  const s = eventsState.value;
  return html`<section class="panel events" aria-labelledby="events-h">
    <h2 id="events-h">Events</h2>
    <div class="scroll" tabindex="0" role="region" aria-labelledby="events-h"><ul class="eventlist">${all.slice(-most).reverse().map((e) => html`<${EventRow} key=${e.key} event=${e} />`)}</ul></div>
    ${all.length === 0 && html`<p class="dim">${s === 'loading' ? 'Loading…' : s === 'down' ? eventsError.value?.message || 'Not known while the controller does not answer.' : 'Nothing has happened yet.'}</p>`}
  </section>`;
}
