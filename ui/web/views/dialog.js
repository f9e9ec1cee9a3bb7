// Questions and the list of shortcuts, in the browser's own dialogs: focus stays
// inside, Escape closes.
import { html, signal, useEffect, useRef } from '../lib/html.js';

const question = signal(null); // {title, text, yes, done}

// confirm asks; it resolves to true or false.
export function confirm(q) {
  return new Promise((done) => {
    question.value = { ...q, done };
  });
}

export const helpOpen = signal(false);

function Dialog({ label, onClose, children }) {
  const ref = useRef();
  useEffect(() => {
    ref.current.showModal();
  }, []);
  return html`<dialog ref=${ref} aria-label=${label} onClose=${onClose}
    onClick=${(e) => e.target === ref.current && ref.current.close()}><div class="inside">${children}</div></dialog>`;
}

function Question({ q }) {
  const answer = (yes) => {
    question.value = null;
    q.done(yes);
  };
  return html`<${Dialog} label=${q.title} onClose=${() => answer(false)}>
    <h2>${q.title}</h2>
    <p>${q.text}</p>
    <p class="buttons">
      <button onClick=${() => answer(false)}>Cancel</button>
      <button class="danger solid" onClick=${() => answer(true)}>${q.yes}</button>
    </p>
  <//>`;
}

const shortcuts = [
  ['?', 'this list'],
  ['g c', 'cluster'],
  ['g t', 'topics'],
  ['g l', 'timeline'],
  ['1 … 9', 'the first node, the second, …'],
  ['/', 'search or filter in the view'],
  ['n N', 'next match, previous match (output)'],
  ['p', 'pause or go on (output, arriving messages, timeline)'],
  ['w', 'wrap long lines (output)'],
  ['End', 'follow the end (output)'],
  ['d', 'light or dark'],
  ['Esc', 'close, or leave a field'],
];

function Help() {
  return html`<${Dialog} label="Keyboard shortcuts" onClose=${() => (helpOpen.value = false)}>
    <h2>Keyboard</h2>
    <dl class="keys">${shortcuts.map(([k, what]) => html`<div><dt>${k.split(/ +/).map((x) => (x === '…' ? x : html`<kbd>${x}</kbd> `))}</dt><dd>${what}</dd></div>`)}</dl>
    <form method="dialog" class="buttons"><button>Close</button></form>
  <//>`;
}

export function Dialogs() {
  return html`${question.value && html`<${Question} q=${question.value} />`}${helpOpen.value && html`<${Help} />`}`;
}
