// How the phases look and read: a sign, a word and a tone, so that colour never
// stands alone.
import { html } from './html.js';
import { until } from './format.js';

const looks = {
  Running: ['●', 'ok'],
  Starting: ['◐', 'busy'],
  Draining: ['◑', 'busy'],
  Pending: ['◌', 'off'],
  Stopped: ['○', 'off'],
  CrashLoopBackOff: ['▲', 'bad'],
  Unknown: ['?', 'bad'],
};

export const look = (phase) => looks[phase] || ['?', 'off'];

// isHeld: a fault keeps the node down until somebody starts it.
export const isHeld = (node) => node.status?.phase === 'Stopped' && !node.spec?.stopped && /^held/i.test(node.status?.reason || '');

// words says the state of a node for a person, with its countdown.
export function words(node) {
  const { phase = 'Pending', nextStart } = node.status || {};
  if (phase === 'CrashLoopBackOff') return nextStart ? `Down, next start in ${until(Date.parse(nextStart))} s` : 'Down, waits';
  if (isHeld(node)) return nextStart ? `Held down for ${until(Date.parse(nextStart))} s` : 'Held down';
  return phase;
}

// reason is the server's sentence, where the phase alone does not say it.
export function reason(node) {
  const { phase, reason } = node.status || {};
  return reason && phase !== 'Running' && !isHeld(node) ? reason : '';
}

export function Phase({ node }) {
  const [sign, tone] = look(node.status?.phase);
  return html`<span class="phase tone-${tone}"><span class="sign" aria-hidden="true">${sign}</span> ${words(node)}</span>`;
}
