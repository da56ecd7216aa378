// Where in a frame the picture is: Stillroom's crop.py, with OpenCV's morphology and outlines written out.
"use strict";

const CROP = { side: 256, corner: 12, black: 48, least: 4, share: 0.06, nearlyAll: 0.97 };
const KINDS = {
  fundus: { share: 0.08, aspect: 1.6, fill: 0.66, square: true },
  endoscopy: { share: 0.3, ends: 0.4, fill: 0.6, square: false },
};

// {left, top, right, bottom} as shares of the frame, or null where no field is found.
function findField(image, kind) {
  const small = shrinkArea(image, ...smaller(image));
  const { width, height } = small, mask = bright(small), limits = KINDS[kind];
  let cleaned = opened(mask, width, height, kind === "fundus" ? 7 : 9);
  if (kind === "endoscopy") cleaned = closed(cleaned, width, height, 9);
  const part = largest(cleaned, width, height);
  if (part === null || (kind === "fundus" && darkCorners(mask, width, height) < 3)) return null;
  const wide = part.right - part.left, tall = part.bottom - part.top;
  if (wide * tall < limits.share * width * height) return null;
  if (kind === "fundus" && Math.max(wide, tall) > limits.aspect * Math.min(wide, tall)) return null;
  if (kind === "endoscopy" && Math.min(wide / width, tall / height) < limits.ends) return null;
  if (part.hull < limits.fill * wide * tall || (wide >= CROP.nearlyAll * width && tall >= CROP.nearlyAll * height)) return null;
  return { left: part.left / width, top: part.top / height, right: part.right / width, bottom: part.bottom / height };
}

function smaller(image) {
  const scale = Math.min(1, CROP.side / Math.max(image.width, image.height));
  return [Math.max(1, even(image.width * scale)), Math.max(1, even(image.height * scale))];
}

// Shorter side in pixels of what is cut out of a frame of that size.
function fieldSide(field, width, height, kind) {
  const sides = [(field.right - field.left) * width, (field.bottom - field.top) * height];
  return KINDS[kind].square ? Math.max(...sides) : Math.min(...sides);
}

// The field cut out of the frame; of a fundus padded with black to a square.
function cropped(image, field, kind) {
  const [left, right] = [even(field.left * image.width), even(field.right * image.width)];
  const [top, bottom] = [even(field.top * image.height), even(field.bottom * image.height)];
  const part = cut(image, left, top, right, bottom);
  if (!KINDS[kind].square) return part;
  const side = Math.max(part.width, part.height), found = blank(side, side);
  const above = Math.floor((side - part.height) / 2), before = Math.floor((side - part.width) / 2);
  for (let y = 0; y < part.height; y += 1) {
    found.data.set(part.data.subarray(y * part.width * 3, (y + 1) * part.width * 3), ((y + above) * side + before) * 3);
  }
  return found;
}

// Mask (0 or 1) of what is brighter than the frame's darkest corner.
function bright(small) {
  const { width, height } = small, grey = new Uint8Array(width * height);
  for (let at = 0; at < grey.length; at += 1) grey[at] = Math.max(small.data[at * 3], small.data[at * 3 + 1], small.data[at * 3 + 2]);
  const side = Math.min(CROP.corner, width, height);
  const levels = cornersOf(width, height, side).map(([left, top]) => {
    const values = [];
    for (let y = top; y < top + side; y += 1) for (let x = left; x < left + side; x += 1) values.push(grey[y * width + x]);
    values.sort((a, b) => a - b);
    return [percentile(values, 50), percentile(values, 90)];
  });
  const [level, high] = levels.reduce((a, b) => (b[0] < a[0] || (b[0] === a[0] && b[1] < a[1]) ? b : a));
  const mask = new Uint8Array(grey.length);
  if (level > CROP.black) return mask;
  const threshold = level + Math.max(CROP.least, 3 * (high - level), CROP.share * (percentile(grey.slice().sort(), 95) - level));
  for (let at = 0; at < grey.length; at += 1) mask[at] = grey[at] > threshold ? 1 : 0;
  return mask;
}

// Of sorted values, between neighbours in proportion.
function percentile(values, q) {
  const place = ((values.length - 1) * q) / 100, below = Math.floor(place);
  const above = Math.min(below + 1, values.length - 1);
  return values[below] + (values[above] - values[below]) * (place - below);
}

const cornersOf = (width, height, side) => [[0, 0], [width - side, 0], [0, height - side], [width - side, height - side]];

function darkCorners(mask, width, height) {
  const side = Math.min(3, width, height);
  return cornersOf(width, height, side).filter(([left, top]) => {
    let count = 0;
    for (let y = top; y < top + side; y += 1) for (let x = left; x < left + side; x += 1) count += mask[y * width + x];
    return (count * 255) / (side * side) < 128;
  }).length;
}

// Half widths of the rows of OpenCV's ellipse of that side.
function ellipse(side) {
  const radius = (side - 1) / 2;
  return Array.from({ length: side }, (_, row) => {
    const down = row - radius;
    return even(radius * Math.sqrt((radius * radius - down * down) / (radius * radius)));
  });
}

// The least (or largest) value below an ellipse around each pixel; what lies outside of the frame does not count.
function filtered(mask, width, height, side, wanted) {
  const halves = ellipse(side), radius = (side - 1) / 2, found = new Uint8Array(mask.length).fill(1 - wanted);
  // Runs of each row: how many wanted pixels stand before each place.
  const before = new Uint32Array((width + 1) * height);
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1) before[y * (width + 1) + x + 1] = before[y * (width + 1) + x] + (mask[y * width + x] === wanted ? 1 : 0);
  }
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1) {
      for (let row = 0; row < side; row += 1) {
        const at = y + row - radius;
        if (at < 0 || at >= height) continue;
        const start = Math.max(0, x - halves[row]), end = Math.min(width, x + halves[row] + 1);
        if (before[at * (width + 1) + end] > before[at * (width + 1) + start]) { found[y * width + x] = wanted; break; }
      }
    }
  }
  return found;
}

const eroded = (mask, width, height, side) => filtered(mask, width, height, side, 0);
const dilated = (mask, width, height, side) => filtered(mask, width, height, side, 1);
const opened = (mask, width, height, side) => dilated(eroded(mask, width, height, side), width, height, side);
const closed = (mask, width, height, side) => eroded(dilated(mask, width, height, side), width, height, side);

// The connected part whose outline encloses the largest area: its box and the area of its convex hull.
function largest(mask, width, height) {
  const seen = new Uint8Array(mask.length);
  let best = null;
  for (let start = 0; start < mask.length; start += 1) {
    if (!mask[start] || seen[start]) continue;
    flood(mask, seen, width, height, start);
    const outline = traced(mask, width, height, start % width, Math.floor(start / width));
    const area = areaOf(outline);
    if (best === null || area > best.area) best = { area, outline };
  }
  if (best === null) return null;
  const xs = best.outline.map(([x]) => x), ys = best.outline.map(([, y]) => y);
  return {
    left: Math.min(...xs), top: Math.min(...ys), right: Math.max(...xs) + 1, bottom: Math.max(...ys) + 1, hull: areaOf(hullOf(best.outline)),
  };
}

function flood(mask, seen, width, height, start) {
  const pending = [start];
  seen[start] = 1;
  while (pending.length) {
    const at = pending.pop(), x = at % width, y = (at - x) / width;
    for (let row = Math.max(0, y - 1); row <= Math.min(height - 1, y + 1); row += 1) {
      for (let column = Math.max(0, x - 1); column <= Math.min(width - 1, x + 1); column += 1) {
        const next = row * width + column;
        if (mask[next] && !seen[next]) { seen[next] = 1; pending.push(next); }
      }
    }
  }
}

const AROUND = [[1, 0], [1, 1], [0, 1], [-1, 1], [-1, 0], [-1, -1], [0, -1], [1, -1]];

// Outer border pixels of a part in order, from its first pixel in reading order (Moore's neighbours).
function traced(mask, width, height, x0, y0) {
  const inside = (x, y) => x >= 0 && y >= 0 && x < width && y < height && mask[y * width + x] === 1;
  const step = (x, y, from) => {
    for (let turn = 0; turn < 8; turn += 1) {
      const way = (from + turn) % 8, [dx, dy] = AROUND[way];
      if (inside(x + dx, y + dy)) return way;
    }
    return -1;
  };
  const outline = [[x0, y0]];
  const first = step(x0, y0, 5);
  if (first < 0) return outline;
  let [x, y, way] = [x0 + AROUND[first][0], y0 + AROUND[first][1], first];
  for (;;) {
    const next = step(x, y, (way + 6) % 8);
    if (x === x0 && y === y0 && next === first) return outline;
    outline.push([x, y]);
    [x, y, way] = [x + AROUND[next][0], y + AROUND[next][1], next];
  }
}

function areaOf(points) {
  let sum = 0;
  points.forEach(([x, y], place) => {
    const [a, b] = points[(place + 1) % points.length];
    sum += x * b - a * y;
  });
  return Math.abs(sum) / 2;
}

// Convex hull (Andrew's monotone chain).
function hullOf(points) {
  const sorted = [...points].sort((a, b) => a[0] - b[0] || a[1] - b[1]);
  const half = (list) => {
    const chain = [];
    for (const point of list) {
      while (chain.length > 1 && turn(chain.at(-2), chain.at(-1), point) <= 0) chain.pop();
      chain.push(point);
    }
    return chain.slice(0, -1);
  };
  return [...half(sorted), ...half([...sorted].reverse())];
}

const turn = (a, b, c) => (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0]);
