// lazy: a classic script, run before the first paint so that a chosen theme
// never flashes the other one.
try {
  const chosen = localStorage.getItem('wiber-theme');
  if (chosen === 'light' || chosen === 'dark') document.documentElement.dataset.theme = chosen;
} catch {
  // no storage: the system's theme
}
