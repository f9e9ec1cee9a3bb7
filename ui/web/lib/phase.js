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

// look is [sign, tone] of a node. One that a fault holds down looks as bad as one
// that crashes: nobody wanted it stopped.
export function look(node) {
  if (isHeld(node)) return ['■', 'bad'];
  if (isUnready(node)) return ['▲', 'busy'];
  return looks[node.status?.phase || 'Pending'] || ['?', 'off'];
}

// isHeld: a fault keeps the node down until somebody starts it.
export const isHeld = (node) => node.status?.phase === 'Stopped' && !node.spec?.stopped && /^held/i.test(node.status?.reason || '');

// isUnready: its process runs, but it serves nothing now.
const isUnready = (node) => node.status?.phase === 'Running' && ready(node)?.status === 'False';
const ready = (node) => node.status?.conditions?.find((c) => c.type === 'Ready');

// isReady: it serves.
export const isReady = (node) => node.status?.phase === 'Running' && !isUnready(node);

// isKnown: what the controller says of its term and lag is what it said lately.
// For any other node they are zeros or of long ago, so the page shows a dash.
export const isKnown = (node) => !!node.status?.pid && (node.status.phase === 'Running' || node.status.phase === 'Draining');

// words says the state of a node for a person, with its countdown.
export function words(node) {
  const { phase = 'Pending', nextStart } = node.status || {};
  if (phase === 'CrashLoopBackOff') return nextStart ? `Down, next start in ${until(Date.parse(nextStart))}` : 'Down, waits';
  if (isUnready(node)) return 'Not ready';
  if (isHeld(node)) return nextStart ? `Held down for ${until(Date.parse(nextStart))}` : 'Held down';
  return phase;
}

// reason is the server's sentence, where the phase alone does not say it.
export function reason(node) {
  const { phase, reason } = node.status || {};
  if (isUnready(node)) return ready(node).message || ready(node).reason;
  return reason && phase !== 'Running' && !isHeld(node) ? reason : '';
}

export function Phase({ node }) {
  const [sign, tone] = look(node);
  return html`<span class="phase tone-${tone}"><span class="sign" aria-hidden="true">${sign}</span> ${words(node)}</span>`;
}
