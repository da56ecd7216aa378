// JPEG at 1/2, 1/4 or 1/8, as libjpeg decodes it: of each block of 8 x 8 the low frequencies alone.
//
// A browser decodes at full size. Its pixels are turned back into the blocks' frequencies, of which the inverse
// transform of 4, 2 or 1 values a side is taken. Colour that the file has at half size is averaged first.
"use strict";

// Rows of the matrix that takes 8 values of a block to `to` values.
function lowFrequencies(to) {
  const wave = (frequency, place, count) => Math.cos(((2 * place + 1) * frequency * Math.PI) / (2 * count)) * Math.sqrt((frequency ? 2 : 1) / count);
  return Array.from({ length: to }, (_, row) => Float32Array.from({ length: 8 }, (_unused, column) => {
    let sum = 0;
    for (let frequency = 0; frequency < to; frequency += 1) sum += wave(frequency, row, to) * wave(frequency, column, 8);
    return sum * Math.sqrt(to / 8);
  }));
}

// A plane {data: Float32Array, width, height} with each 8 x 8 block as `to` x `to`; edges are continued.
function reducedBlocks(plane, to, width, height) {
  if (to === 8) return plane;
  const matrix = lowFrequencies(to), across = new Float32Array(width * plane.height);
  for (let y = 0; y < plane.height; y += 1) {
    for (let x = 0; x < width; x += 1) {
      const row = matrix[x % to], start = Math.floor(x / to) * 8;
      let sum = 0;
      for (let at = 0; at < 8; at += 1) sum += row[at] * plane.data[y * plane.width + Math.min(start + at, plane.width - 1)];
      across[y * width + x] = sum;
    }
  }
  const found = new Float32Array(width * height);
  for (let y = 0; y < height; y += 1) {
    const row = matrix[y % to], start = Math.floor(y / to) * 8;
    for (let at = 0; at < 8; at += 1) {
      const weight = row[at], from = Math.min(start + at, plane.height - 1) * width;
      for (let x = 0; x < width; x += 1) found[y * width + x] += weight * across[from + x];
    }
  }
  return { data: found, width, height };
}

// Means of 2 x 2, the last ones of what is there.
function halved(plane) {
  const width = Math.ceil(plane.width / 2), height = Math.ceil(plane.height / 2), data = new Float32Array(width * height);
  for (let y = 0; y < height; y += 1) {
    const top = 2 * y * plane.width, bottom = Math.min(2 * y + 1, plane.height - 1) * plane.width;
    for (let x = 0; x < width; x += 1) {
      const left = 2 * x, right = Math.min(left + 1, plane.width - 1);
      data[y * width + x] = (plane.data[top + left] + plane.data[top + right] + plane.data[bottom + left] + plane.data[bottom + right]) / 4;
    }
  }
  return { data, width, height };
}

// An image that was decoded whole as libjpeg decodes it at 1/factor.
function scaledJpeg(image, header, factor) {
  if (factor === 1) return image;
  const count = image.width * image.height, side = 8 / factor;
  const width = Math.ceil(image.width / factor), height = Math.ceil(image.height / factor);
  const planes = [0, 1, 2].map(() => ({ data: new Float32Array(count), width: image.width, height: image.height }));
  for (let at = 0; at < count; at += 1) {
    const red = image.data[3 * at], green = image.data[3 * at + 1], blue = image.data[3 * at + 2];
    planes[0].data[at] = 0.299 * red + 0.587 * green + 0.114 * blue;
    planes[1].data[at] = -0.168736 * red - 0.331264 * green + 0.5 * blue;
    planes[2].data[at] = 0.5 * red - 0.418688 * green - 0.081312 * blue;
  }
  const clamped = (plane, low, high) => { plane.data.forEach((value, at) => { plane.data[at] = Math.min(high, Math.max(low, Math.round(value))); }); return plane; };
  const light = clamped(reducedBlocks(planes[0], side, width, height), 0, 255);
  const [blues, reds] = planes.slice(1).map((plane) => {
    // Colour at half size keeps twice as many frequencies a block.
    const found = header.halfColour ? reducedBlocks(halved(plane), 2 * side, width, height) : reducedBlocks(plane, side, width, height);
    return clamped(found, -128, 127);
  });
  const found = blank(width, height);
  for (let at = 0; at < width * height; at += 1) {
    const y = light.data[at], cb = blues.data[at], cr = reds.data[at];
    found.data[3 * at] = Math.round(y + 1.402 * cr);
    found.data[3 * at + 1] = Math.round(y - 0.344136 * cb - 0.714136 * cr);
    found.data[3 * at + 2] = Math.round(y + 1.772 * cb);
  }
  return found;
}

// How much smaller a JPEG may be decoded for its side to stay at least `wanted` pixels.
const jpegFactor = (side, wanted) => [8, 4, 2].find((factor) => side >= factor * wanted) ?? 1;

// The image turned as its Exif orientation says.
function upright(image, orientation) {
  if (orientation < 2 || orientation > 8) return image;
  const { width, height } = image, swaps = orientation > 4;
  const found = blank(swaps ? height : width, swaps ? width : height);
  for (let y = 0; y < found.height; y += 1) {
    for (let x = 0; x < found.width; x += 1) {
      const [a, b] = swaps ? [y, x] : [x, y];
      const left = [2, 3, 7, 8].includes(orientation) ? width - 1 - a : a;
      const top = [3, 4, 6, 7].includes(orientation) ? height - 1 - b : b;
      const from = (top * width + left) * 3;
      found.data.set(image.data.subarray(from, from + 3), (y * found.width + x) * 3);
    }
  }
  return found;
}
