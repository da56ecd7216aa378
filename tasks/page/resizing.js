// Resizing as OpenCV does it: areas are averaged (INTER_AREA), growing is bilinear (INTER_LINEAR); and masks.
"use strict";

// Python's round and OpenCV's cvRound: halves go to the even neighbour.
function even(value) {
  const below = Math.floor(value), rest = value - below;
  if (rest !== 0.5) return Math.round(value);
  return below % 2 === 0 ? below : below + 1;
}

// For each target pixel the source pixels that it covers and their shares, as OpenCV's computeResizeAreaTab.
function shares(from, to) {
  const scale = from / to, found = [];
  for (let place = 0; place < to; place += 1) {
    const start = place * scale, end = start + scale;
    const width = Math.min(scale, from - start);
    const last = Math.min(Math.floor(end), from - 1), first = Math.min(Math.ceil(start), last);
    if (first - start > 1e-3) found.push([first - 1, place, Math.fround((first - start) / width)]);
    for (let at = first; at < last; at += 1) found.push([at, place, Math.fround(1 / width)]);
    if (end - last > 1e-3) found.push([last, place, Math.fround(Math.min(end - last, 1, width) / width)]);
  }
  return found;
}

function shrinkArea(image, width, height) {
  const across = image.width / width, down = image.height / height;
  if (across === 1 && down === 1) return { ...image, data: image.data.slice() };
  if (Number.isInteger(across) && Number.isInteger(down)) return shrinkWhole(image, width, height, across, down);
  const columns = shares(image.width, width), rows = shares(image.height, height);
  const found = blank(width, height), sum = new Float32Array(width * 3), line = new Float32Array(width * 3);
  let current = -1, read = -1;
  const write = () => {
    for (let at = 0; at < sum.length; at += 1) found.data[current * sum.length + at] = even(sum[at]);
  };
  for (const [from, to, weight] of rows) {
    if (from !== read) {
      line.fill(0);
      const start = from * image.width * 3;
      for (const [source, target, share] of columns) {
        const at = start + source * 3, into = target * 3;
        line[into] += image.data[at] * share;
        line[into + 1] += image.data[at + 1] * share;
        line[into + 2] += image.data[at + 2] * share;
      }
      read = from;
    }
    if (to !== current) {
      if (current >= 0) write();
      current = to;
      for (let at = 0; at < sum.length; at += 1) sum[at] = weight * line[at];
    } else {
      for (let at = 0; at < sum.length; at += 1) sum[at] += weight * line[at];
    }
  }
  write();
  return found;
}

function shrinkWhole(image, width, height, across, down) {
  const found = blank(width, height), scale = Math.fround(1 / (across * down));
  const halves = across === 2 && down === 2;
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1) {
      for (let channel = 0; channel < 3; channel += 1) {
        let sum = 0;
        for (let row = 0; row < down; row += 1) {
          let at = ((y * down + row) * image.width + x * across) * 3 + channel;
          for (let column = 0; column < across; column += 1, at += 3) sum += image.data[at];
        }
        found.data[(y * width + x) * 3 + channel] = halves ? (sum + 2) >> 2 : even(Math.fround(sum * scale));
      }
    }
  }
  return found;
}

function growLinear(image, width, height) {
  const places = (from, to) => Array.from({ length: to }, (_, place) => {
    const exact = (place + 0.5) * (from / to) - 0.5, low = Math.floor(exact);
    if (low < 0) return [0, 0, 0];
    if (low >= from - 1) return [from - 1, from - 1, 0];
    return [low, low + 1, even((exact - low) * 2048) / 2048];
  });
  const columns = places(image.width, width), rows = places(image.height, height), found = blank(width, height);
  rows.forEach(([top, bottom, down], y) => columns.forEach(([left, right, over], x) => {
    for (let channel = 0; channel < 3; channel += 1) {
      const at = (row, column) => image.data[(row * image.width + column) * 3 + channel];
      const above = at(top, left) * (1 - over) + at(top, right) * over;
      const below = at(bottom, left) * (1 - over) + at(bottom, right) * over;
      found.data[(y * width + x) * 3 + channel] = Math.floor(above * (1 - down) + below * down + 0.5);
    }
  }));
  return found;
}

// The image as a square of that side.
function squared(image, side) {
  if (image.width === side && image.height === side) return image;
  return image.width >= side && image.height >= side ? shrinkArea(image, side, side) : growLinear(image, side, side);
}

function cut(image, left, top, right, bottom) {
  const found = blank(right - left, bottom - top);
  for (let y = top; y < bottom; y += 1) {
    found.data.set(image.data.subarray((y * image.width + left) * 3, (y * image.width + right) * 3), (y - top) * found.width * 3);
  }
  return found;
}

// The largest centred square as a square of that side.
function plainView(image, side) {
  const least = Math.min(image.width, image.height);
  const left = Math.floor((image.width - least) / 2), top = Math.floor((image.height - least) / 2);
  return squared(cut(image, left, top, left + least, top + least), side);
}

function shortened(image, side) {
  const short = Math.min(image.width, image.height);
  if (side === null || short <= side) return image;
  return shrinkArea(image, Math.max(side, even((image.width * side) / short)), Math.max(side, even((image.height * side) / short)));
}

// Polygons painted black, their outlines included; corners are shares of the frame's width and height.
function masked(image, polygons) {
  const found = { ...image, data: image.data.slice() };
  for (const polygon of polygons) {
    const corners = polygon.map(([x, y]) => [
      Math.max(0, Math.floor(x * image.width - 0.5)), Math.max(0, Math.floor(y * image.height - 0.5)),
    ]);
    const highest = Math.min(image.height - 1, Math.max(...corners.map(([, y]) => y)));
    for (let y = Math.min(...corners.map(([, y]) => y)); y <= highest; y += 1) {
      for (const [from, to] of spans(corners, y)) {
        const start = Math.max(0, from), end = Math.min(image.width - 1, to);
        if (end >= start) found.data.fill(0, (y * image.width + start) * 3, (y * image.width + end + 1) * 3);
      }
    }
  }
  return found;
}

// Parts of a row that lie in a polygon, by the even-odd rule, and where its edges cross the row.
function spans(corners, y) {
  const crossings = [], edges = [];
  corners.forEach(([x0, y0], place) => {
    const [x1, y1] = corners[(place + 1) % corners.length];
    if (Math.min(y0, y1) <= y && y <= Math.max(y0, y1)) {
      const slope = y0 === y1 ? 0 : (x1 - x0) / (y1 - y0);
      const reach = (at) => Math.min(Math.max(x0 + (at - y0) * slope, Math.min(x0, x1)), Math.max(x0, x1));
      const ends = y0 === y1 ? [x0, x1] : Math.abs(slope) > 1 ? [reach(y - 0.5), reach(y + 0.5)] : [reach(y), reach(y)];
      edges.push([Math.round(Math.min(...ends)), Math.round(Math.max(...ends))]);
    }
    if (y0 !== y1 && Math.min(y0, y1) <= y && y < Math.max(y0, y1)) crossings.push(x0 + ((y - y0) * (x1 - x0)) / (y1 - y0));
  });
  crossings.sort((a, b) => a - b);
  for (let at = 0; at + 1 < crossings.length; at += 2) edges.push([Math.ceil(crossings[at]), Math.floor(crossings[at + 1])]);
  return edges;
}
