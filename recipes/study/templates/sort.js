for (const button of document.querySelectorAll('#encoders th button')) {
  button.addEventListener('click', () => {
    const head = button.closest('th'), body = head.closest('table').tBodies[0];
    const up = head.getAttribute('aria-sort') === 'descending' || !head.hasAttribute('aria-sort') && !head.dataset.down;
    for (const other of head.parentNode.children) other.removeAttribute('aria-sort');
    head.setAttribute('aria-sort', up ? 'ascending' : 'descending');
    const text = row => row.cells[head.cellIndex].textContent;
    const order = (a, b) => {
      const [x, y] = [text(a), text(b)], [i, j] = [parseFloat(x), parseFloat(y)];
      if (head.dataset.number === undefined) return x.localeCompare(y) * (up ? 1 : -1);
      if (isNaN(i) || isNaN(j)) return isNaN(i) - isNaN(j);
      return (i - j) * (up ? 1 : -1);
    };
    body.append(...[...body.rows].sort(order));
  });
}
