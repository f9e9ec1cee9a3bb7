// The fragment of the address says what is shown: #/node/n2?at=…. So every view
// has an address of its own, the back button works, and the server knows one page.
import { signal } from './html.js';

function parse(hash) {
  const [path, query] = hash.replace(/^#/, '').split('?', 2);
  const parts = path.split('/').filter(Boolean).map(decode);
  return { view: parts[0] || 'cluster', name: parts.slice(1).join('/'), query: new URLSearchParams(query || '') };
}

function decode(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

// route is {view, name, query} of the address.
export const route = signal(parse(location.hash));

addEventListener('hashchange', () => {
  route.value = parse(location.hash);
});

// to makes the address of a view. A cluster that the address names stays chosen.
export function to(view, name, query) {
  const cluster = route.value.query.get('cluster');
  const all = { ...(cluster && { cluster }), ...query };
  const tail = Object.keys(all).length > 0 ? '?' + new URLSearchParams(all) : '';
  if (view === 'cluster') return '#/' + tail;
  return '#/' + view + (name ? '/' + encodeURIComponent(name) : '') + tail;
}

// go shows a view; replace leaves no step for the back button.
export function go(address, replace = false) {
  if (!replace) {
    location.hash = address;
    return;
  }
  history.replaceState(null, '', address);
  route.value = parse(address);
}
