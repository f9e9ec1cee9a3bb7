// What the controller knows: clusters and their nodes, watched.
import { computed, signal } from '../lib/html.js';
import { path, post } from './api.js';
import { watch } from './watch.js';
import { route } from '../lib/router.js';

const api = '/apis/wiber.dev/v1alpha1/';

const clusterWatch = watch(api + 'clusters', { matters: true });
const nodeWatch = watch(api + 'nodes', { matters: true });

const byName = (a, b) => a.metadata.name.localeCompare(b.metadata.name, 'en', { numeric: true });

export const clusters = computed(() => [...clusterWatch.items.value.values()].sort(byName));

// loaded: the first lists are here. Before, nothing is said about what runs.
export const loaded = computed(() => ready(clusterWatch) && ready(nodeWatch));
const everReady = new Set();
function ready(w) {
  if (w.state.value === 'live' || w.state.value === 'polling') everReady.add(w);
  return everReady.has(w);
}

// live: what is shown is what is.
export const live = computed(() => [clusterWatch, nodeWatch].every((w) => w.state.value === 'live' || w.state.value === 'polling'));

export const loadError = computed(() => nodeWatch.error.value || clusterWatch.error.value);

// wanted is the cluster that the address names, if it does.
export const wanted = computed(() => route.value.query.get('cluster'));

// cluster is the one that is shown, or null: never another than the address names.
export const cluster = computed(() => {
  const all = clusters.value;
  return (wanted.value ? all.find((c) => c.metadata.name === wanted.value) : all[0]) || null;
});

// clusterName is what requests must say: nothing while there is only one.
export const clusterName = computed(() => (clusters.value.length > 1 ? cluster.value?.metadata.name : undefined));

export const nodes = computed(() => {
  const name = cluster.value?.metadata.name;
  return [...nodeWatch.items.value.values()].filter((n) => n.metadata.namespace === name).sort(byName);
});

// second ticks while somebody looks, for ages and countdowns.
export const second = signal(0);
setInterval(() => {
  if (!document.hidden) second.value++;
}, 1000);

export const condition = (object, type) => object?.status?.conditions?.find((c) => c.type === type);

// isTrue trusts a condition only if it is about the present spec.
export function isTrue(object, type) {
  const c = condition(object, type);
  return !!c && c.status === 'True' && (c.observedGeneration ?? 0) >= (object.metadata.generation ?? 0);
}

// act asks for kill, restart, stop or start of a node.
export const act = (id, what, query = {}) => post(path(`/cluster/node/${encodeURIComponent(id)}/${what}`, { ...query, cluster: clusterName.peek() }));

// startAll and stopAll are about every node.
export const startAll = () => post(path('/cluster/start', { cluster: clusterName.peek() }));
export const stopAll = () => post(path('/cluster/stop', { cluster: clusterName.peek() }));
