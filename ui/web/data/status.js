// Each ready node's own /v1/status, read about each second while somebody looks.
import { effect, signal } from '../lib/html.js';
import { get, path } from './api.js';
import { visible } from './link.js';
import { isReady } from '../lib/phase.js';
import { clusterName, nodes } from './objects.js';

const every = 1000;

// statuses is a Map from node to {at, data} of the last answer; a node that does
// not answer any more is not in it.
export const statuses = signal(new Map());

let wanted = 0; // views that look

// pollStatuses polls while a view is shown: call it in an effect.
export function pollStatuses() {
  wanted++;
  if (wanted === 1) turn();
  return () => {
    wanted--;
  };
}

let timer;
let turns = 0;
async function turn() {
  clearTimeout(timer);
  if (wanted === 0) return;
  const mine = ++turns; // a turn that another one overtook does not go on
  if (visible.peek()) {
    const running = nodes.peek().filter((n) => n.status?.phase === 'Running');
    const answers = await Promise.all(running.map(one));
    if (mine !== turns) return;
    statuses.value = new Map(answers.filter(Boolean));
  }
  if (wanted > 0) timer = setTimeout(turn, every);
}

// All wait for the slowest, so a node that is said to hang is not waited for long.
async function one(n) {
  const node = n.metadata.name;
  try {
    const data = await get(path(`/nodes/${encodeURIComponent(node)}/v1/status`, { cluster: clusterName.peek() }), { timeout: isReady(n) ? 3000 : 500 });
    return [node, { at: Date.now(), data }];
  } catch {
    return null;
  }
}

// When a node becomes ready, or hangs, all are asked at once; what nodes of
// another cluster said is forgotten.
let shown;
let phases = '';
effect(() => {
  const now = nodes.value.map((n) => n.status?.phase + isReady(n)).join();
  const name = clusterName.value;
  if (now === phases && name === shown) return;
  if (name !== shown) statuses.value = new Map();
  phases = now;
  shown = name;
  turn();
});

// doubtsAbout says who does not see a node as alive: "suspect for n1".
export function doubtsAbout(id, statuses) {
  const doubts = [];
  for (const [from, { data }] of statuses) {
    const state = from !== id && data.gossip?.find((g) => g.node === id)?.state;
    if (state && state !== 'alive') doubts.push(`${state} for ${from}`);
  }
  return doubts;
}

// groupsOf joins what the nodes say about each raft group: its leader by the
// highest term that somebody states, and for each node how far it is. A node
// without a process says nothing and leads nothing, whatever was last heard.
export function groupsOf(nodes, heard, shards) {
  const lives = new Set(nodes.filter((n) => n.status?.pid).map((n) => n.metadata.name));
  const statuses = new Map([...heard].filter(([node]) => lives.has(node)));
  const ids = ['catalogue', ...Array.from({ length: shards }, (_, i) => String(i))];
  return ids.map((id) => {
    const group = { id, leader: '', term: 0, commit: 0, members: new Map() };
    for (const [node, { data }] of statuses) {
      const g = data.groups?.find((g) => g.id === id);
      if (!g) continue;
      group.members.set(node, { role: g.role, applied: g.applied, commit: g.commit });
      if (g.term >= group.term && g.leader) {
        group.term = g.term;
        group.leader = g.leader;
      }
      group.commit = Math.max(group.commit, g.commit);
    }
    if (!lives.has(group.leader)) group.leader = '';
    const leading = statuses.get(group.leader)?.data.groups?.find((g) => g.id === id && g.role === 'leader');
    for (const f of leading?.followers || []) {
      group.members.set(f.node, { ...group.members.get(f.node), lag: f.lag, active: f.active });
    }
    if (statuses.size === 0) {
      group.leader = nodes.find((n) => n.status?.leaderOf?.includes(id))?.metadata.name || '';
      if (id === 'catalogue') group.term = Math.max(0, ...nodes.map((n) => n.status?.term || 0));
    }
    return group;
  });
}
