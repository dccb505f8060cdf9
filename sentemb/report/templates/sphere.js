// Draws #sphere-data: pairs of sentences on a sphere, by several encoders, to turn with mouse, touch or arrow keys.
(() => {
  const { pairs, encoders } = JSON.parse(document.getElementById('sphere-data').textContent);
  const box = document.getElementById('sphere'), canvas = box.querySelector('canvas'), pen = canvas.getContext('2d');
  const panel = box.querySelector('output'), buttons = [...box.querySelectorAll('[data-encoder]')];
  const dark = matchMedia('(prefers-color-scheme: dark)'), still = matchMedia('(prefers-reduced-motion: reduce)');
  const STEP = 0.12, MOVE = 900, NEAR = 16;  // radians of a key, milliseconds from encoder to encoder, pixels
  const last = encoders.length - 1, dots = 2 * pairs.length;
  let places = encoders[last].points, turn = [[1, 0, 0], [0, 1, 0], [0, 0, 1]];
  let seen = [], chosen = -1, drag = null, frame = 0, moving = 0, zoom = 1, radius = 1, middle = 1;

  // ---- three dimensions
  const times = (a, b) => a.map(row => [0, 1, 2].map(j => row[0] * b[0][j] + row[1] * b[1][j] + row[2] * b[2][j]));
  const unit = v => { const n = Math.hypot(...v) || 1; return v.map(c => c / n); };
  const between = (a, b, t) => unit(a.map((c, k) => c + (b[k] - c) * t));
  const viewed = v => turn.map(row => row[0] * v[0] + row[1] * v[1] + row[2] * v[2]);
  const turnBy = ([x, y, z], angle) => {
    const c = Math.cos(angle), s = Math.sin(angle), d = 1 - c;
    turn = times([[c + x * x * d, x * y * d - z * s, x * z * d + y * s], [y * x * d + z * s, c + y * y * d, y * z * d - x * s],
      [z * x * d - y * s, z * y * d + x * s, c + z * z * d]], turn);
  };
  const place = dot => places.slice(3 * dot, 3 * dot + 3);

  // ---- the picture
  const at = v => [middle + radius * v[0], middle - radius * v[1]];
  const path = points => {
    pen.beginPath();
    points.forEach((v, k) => pen[k ? 'lineTo' : 'moveTo'](...at(v)));
    pen.stroke();
  };
  const arc = (a, b) => {
    const steps = Math.ceil(Math.acos(Math.max(-1, Math.min(1, a[0] * b[0] + a[1] * b[1] + a[2] * b[2]))) / 0.2) || 1;
    return Array.from({ length: steps + 1 }, (_, k) => between(a, b, k / steps));
  };
  const alpha = depth => depth < 0 ? 0.16 + 0.14 * (1 + depth) : 0.45 + 0.55 * depth;
  const paint = () => {
    const style = getComputedStyle(box), colour = name => style.getPropertyValue(name).trim();
    const first = colour('--mark'), second = colour('--second'), ink = colour('--ink'), line = colour('--soft');
    pen.clearRect(0, 0, 2 * middle, 2 * middle);
    pen.lineWidth = 1;
    pen.strokeStyle = line;
    pen.globalAlpha = 0.6;
    pen.beginPath();
    pen.arc(middle, middle, radius, 0, 2 * Math.PI);
    pen.stroke();
    for (const [a, b] of [[0, 1], [1, 2], [0, 2]]) {  // three great circles
      const circle = Array.from({ length: 61 }, (_, k) => {
        const v = [0, 0, 0];
        [v[a], v[b]] = [Math.cos(k * Math.PI / 30), Math.sin(k * Math.PI / 30)];
        return viewed(v);
      });
      for (let k = 0; k < 60; k += 1) {
        pen.globalAlpha = circle[k][2] < 0 ? 0.1 : 0.3;
        path(circle.slice(k, k + 2));
      }
    }
    seen = Array.from({ length: dots }, (_, dot) => viewed(place(dot)));
    const order = [...seen.keys()].sort((i, j) => seen[i][2] - seen[j][2]);
    pairs.forEach((_, i) => {
      const [a, b] = [seen[2 * i], seen[2 * i + 1]];
      pen.globalAlpha = 0.45 * alpha((a[2] + b[2]) / 2);
      path(arc(a, b));
    });
    const dot = (i, size) => {
      pen.beginPath();
      pen.fillStyle = i % 2 ? second : first;
      pen.arc(...at(seen[i]), size, 0, 2 * Math.PI);
      pen.fill();
    };
    for (const i of order) {
      pen.globalAlpha = alpha(seen[i][2]);
      dot(i, (2.6 + 1.2 * seen[i][2]) * Math.max(0.7, Math.min(1, radius / 240)));
    }
    if (chosen >= 0) {
      const ends = [chosen - chosen % 2, chosen - chosen % 2 + 1];
      pen.globalAlpha = 1;
      pen.lineWidth = 2.5;
      pen.strokeStyle = ink;
      path(arc(seen[ends[0]], seen[ends[1]]));
      for (const i of ends) {
        dot(i, 6);
        pen.stroke();
      }
    }
  };
  const draw = () => { cancelAnimationFrame(frame); frame = requestAnimationFrame(paint); };

  // ---- what a reader does
  const choose = dot => {
    if (dot === chosen) return;
    chosen = dot;
    const pair = Math.floor(dot / 2), line = (text, name) => {
      const element = document.createElement('span');
      element.className = name;
      element.textContent = text;
      return element;
    };
    const cosines = encoders.map(each => `${each.cosines[pair].toFixed(2)} ${each.title}`).join(', ');
    panel.replaceChildren(line(pairs[pair][0], 'first'), line(pairs[pair][1], 'second'), line(`cosine ${cosines}`, 'soft'));
    draw();
  };
  const step = by => {
    const pair = (Math.floor(chosen / 2) + by + pairs.length + (chosen < 0 && by < 0 ? 1 : 0)) % pairs.length;
    choose(2 * pair);
    const [x, y, z] = viewed(between(place(2 * pair), place(2 * pair + 1), 0.5)), n = Math.hypot(x, y);
    if (n > 1e-6) turnBy([y / n, -x / n, 0], Math.acos(Math.max(-1, Math.min(1, z))));
    draw();
  };
  const nearest = (x, y) => {
    let best = -1, least = NEAR;
    seen.forEach((v, dot) => {
      const [px, py] = at(v), distance = Math.hypot(px - x, py - y) + (v[2] < 0 ? NEAR / 2 : 0);
      if (distance < least) [best, least] = [dot, distance];
    });
    return best;
  };
  const press = encoder => buttons.forEach((button, k) => button.setAttribute('aria-pressed', k === encoder));
  const show = encoder => {
    const from = places, to = encoders[encoder].points, began = performance.now();
    press(encoder);
    const move = now => {
      const share = still.matches ? 1 : Math.min(1, Math.max(0, now - began) / MOVE), t = share * share * (3 - 2 * share);
      places = share === 1 ? to : Array.from({ length: dots }, (_, i) => {
        return between(from.slice(3 * i, 3 * i + 3), to.slice(3 * i, 3 * i + 3), t);
      }).flat();
      paint();
      if (share < 1) moving = requestAnimationFrame(move);
    };
    cancelAnimationFrame(moving);
    moving = requestAnimationFrame(move);
  };
  buttons.forEach((button, k) => button.addEventListener('click', () => show(k)));
  for (const button of box.querySelectorAll('[data-step]')) {
    button.addEventListener('click', () => step(Number(button.dataset.step)));
  }
  canvas.addEventListener('keydown', event => {
    const axis = { ArrowRight: [0, 1, 0], ArrowLeft: [0, -1, 0], ArrowDown: [1, 0, 0], ArrowUp: [-1, 0, 0] }[event.key];
    const by = { n: 1, p: -1 }[event.key.toLowerCase()], closer = { '+': 1.4, '=': 1.4, '-': 1 / 1.4 }[event.key];
    if (event.ctrlKey || event.metaKey || event.altKey || !axis && !by && !closer) return;
    event.preventDefault();
    if (axis) turnBy(axis, STEP);
    if (by) step(by);
    if (closer) fit(closer);
    draw();
  });
  canvas.addEventListener('focus', () => { if (chosen < 0 && canvas.matches(':focus-visible')) step(1); });
  canvas.addEventListener('pointerdown', event => {
    canvas.setPointerCapture(event.pointerId);
    drag = [event.clientX, event.clientY];
    const dot = nearest(event.offsetX, event.offsetY);
    if (dot >= 0) choose(dot);
  });
  canvas.addEventListener('pointermove', event => {
    if (!drag) {
      const dot = nearest(event.offsetX, event.offsetY);
      if (dot >= 0) choose(dot);
      return;
    }
    turnBy([0, 1, 0], (event.clientX - drag[0]) / radius);
    turnBy([1, 0, 0], (event.clientY - drag[1]) / radius);
    drag = [event.clientX, event.clientY];
    draw();
  });
  for (const end of ['pointerup', 'pointercancel']) canvas.addEventListener(end, () => { drag = null; });

  const fit = by => {
    zoom = Math.max(1, Math.min(6, zoom * by));
    [middle, radius] = [canvas.clientWidth / 2, Math.max(1, canvas.clientWidth / 2 - 10) * zoom];
    draw();
  };
  for (const button of box.querySelectorAll('[data-zoom]')) {
    button.addEventListener('click', () => fit(Number(button.dataset.zoom)));
  }
  new ResizeObserver(() => {
    const width = canvas.clientWidth, ratio = devicePixelRatio || 1;
    canvas.width = canvas.height = Math.round(width * ratio);
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    fit(1);
    paint();
  }).observe(canvas);
  dark.addEventListener('change', draw);
  if (last > 0 && !still.matches) {  // once, as soon as it is in view: from before to after
    places = encoders[0].points;
    press(0);
    new IntersectionObserver((entries, observer) => {
      if (!entries.some(entry => entry.isIntersecting)) return;
      observer.disconnect();
      setTimeout(() => show(last), 600);
    }, { threshold: 0.5 }).observe(canvas);
  }
})();
