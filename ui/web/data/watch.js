// A watch keeps a list of objects as the server has it: all of them first, then
// every change, over a WebSocket. Where something between here and the server
// passes no WebSockets, the list is read again each second instead.
import { signal } from '../lib/html.js';
import { get, path, socketURL } from './api.js';
import { Link, visible } from './link.js';

const pollEvery = 1000;
const upgradeEvery = 15; // polls until a WebSocket is tried again
const openWithin = 5000;

const key = (o) => (o.metadata.namespace || '') + '/' + o.metadata.name;

// watch returns {items, state, error}, all signals: items is a Map by
// namespace/name, state is loading, live, polling or down. It lives as long as
// the page.
export function watch(url, { matters = false } = {}) {
  const items = signal(new Map());
  const state = signal('loading');
  const error = signal(null);

  // apply takes what arrived since the last turn as one change.
  let pending = [];
  let fresh = null; // the list that grows until its bookmark
  let flushing = false;
  let whole = null; // called when the list is complete
  const apply = (event) => {
    pending.push(event);
    if (flushing) return;
    flushing = true;
    queueMicrotask(() => {
      flushing = false;
      const events = pending;
      pending = [];
      let next = null;
      for (const { type, object } of events) {
        if (type === 'BOOKMARK') {
          if (fresh) next = fresh;
          fresh = null;
          continue;
        }
        const target = fresh || (next ||= new Map(items.value));
        if (type === 'DELETED') target.delete(key(object));
        else target.set(key(object), object);
      }
      if (next) items.value = next;
      if (!fresh && whole) whole();
    });
  };

  const poll = (link) => {
    let over = false;
    let timer;
    let turns = 0;
    const turn = async () => {
      try {
        if (visible.value || state.value !== 'polling') {
          const list = await get(url);
          if (over) return;
          items.value = new Map(list.items.map((o) => [key(o), o]));
          state.value = 'polling';
          error.value = null;
          link.up();
        }
        if (++turns >= upgradeEvery) link.try();
        else timer = setTimeout(turn, pollEvery);
      } catch (err) {
        if (over) return;
        state.value = 'down';
        error.value = err;
        link.down();
      }
    };
    turn();
    return () => {
      over = true;
      clearTimeout(timer);
    };
  };

  const open = (link) => {
    let endPoll;
    let heard = false;
    const socket = new WebSocket(socketURL(path(url, { watch: 1 })));
    const late = setTimeout(() => socket.close(), openWithin);
    fresh = new Map();
    pending = [];
    socket.onmessage = ({ data }) => {
      const event = JSON.parse(data);
      if (event.type === 'ERROR') {
        error.value = new Error(event.object.message);
        socket.close();
        return;
      }
      apply(event);
      if (heard) return;
      heard = true;
      clearTimeout(late);
    };
    whole = () => {
      whole = null;
      state.value = 'live';
      error.value = null;
      link.up();
    };
    socket.onclose = () => {
      clearTimeout(late);
      if (!heard) {
        endPoll = poll(link);
        return;
      }
      state.value = 'down';
      link.down();
    };
    return () => {
      whole = null;
      clearTimeout(late);
      socket.onclose = socket.onmessage = null;
      socket.close();
      endPoll?.();
    };
  };

  new Link(open, { matters });
  return { items, state, error };
}
