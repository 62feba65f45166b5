(() => {
  const away = document.getElementById('away');
  let last = new Date(), times = 0;
  const again = async () => {
    try {
      if (document.hidden) return;
      const answer = await fetch(location.pathname, { cache: 'no-store', signal: AbortSignal.timeout(8000) });
      if (!answer.ok) throw new Error(answer.status);
      const page = new DOMParser().parseFromString(await answer.text(), 'text/html');
      const main = document.querySelector('main'), fresh = page.querySelector('main');
      main.querySelectorAll('details[open]').forEach((open) => {
        const same = fresh.querySelector('#' + open.id);
        if (same) same.open = true;
      });
      main.replaceWith(fresh);
      document.title = page.title;
      document.querySelector('link[rel=icon]').href = page.querySelector('link[rel=icon]').getAttribute('href');
      away.hidden = true;
      last = new Date();
      document.body.dataset.refreshed = ++times;
    } catch {
      away.hidden = false;
      away.querySelector('b').textContent = 'of ' + last.toLocaleTimeString();
      document.title = '✕ no answer';
    } finally {
      setTimeout(again, 5000);
    }
  };
  document.addEventListener('visibilitychange', () => document.hidden || (away.hidden = true));
  setTimeout(again, 5000);
})();
