// Whether the controller serves another version of this page than the one that
// is open; asked after each time the connection was lost.
import { effect, signal } from '../lib/html.js';
import { outage } from './link.js';

const mine = document.querySelector('meta[name=wiber-version]').content;

export const newer = signal(false);

let lost = false;
effect(() => {
  if (outage.value) {
    lost = true;
    return;
  }
  if (!lost) return;
  lost = false;
  fetch('/')
    .then((r) => r.text())
    .then((text) => {
      const version = /name="wiber-version" content="([^"]*)"/.exec(text);
      newer.value = !!version && version[1] !== mine;
    })
    .catch(() => {}); // the link will say so
});
