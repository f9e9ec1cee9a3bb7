// Events of the cluster, watched: what the controller did and saw.
import { computed } from '../lib/html.js';
import { cluster } from './objects.js';
import { watch } from './watch.js';

const w = watch('/events');

export const eventsState = w.state;
export const eventsError = w.error;

// events are those of the cluster that is shown, oldest first. at and first are
// milliseconds.
export const events = computed(() => {
  const name = cluster.value?.metadata.name;
  return [...w.items.value.values()]
    .filter((e) => e.metadata.namespace === name)
    .map((e) => ({
      key: e.metadata.uid || e.metadata.name,
      at: Date.parse(e.lastTimestamp),
      first: Date.parse(e.firstTimestamp),
      count: e.count || 1,
      warning: e.type === 'Warning',
      reason: e.reason,
      message: e.message,
      kind: e.involvedObject.kind,
      object: e.involvedObject.name,
      source: e.source?.component || '',
    }))
    .sort((a, b) => a.at - b.at);
});

// nodeOf is the node whose output says more about an event, or ''.
export function nodeOf(event, nodes) {
  const known = (name) => nodes.some((n) => n.metadata.name === name);
  if (event.kind === 'Node') return event.object;
  const from = /^node\/(.+)$/.exec(event.source)?.[1];
  if (from && known(from)) return from;
  return event.message.match(/[\w.-]+/g)?.find(known) || '';
}
