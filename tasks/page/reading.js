// From the bytes of a file to pixels: what Stillroom's formats.py does, as far as a browser can.
"use strict";

class Unreadable extends Error {}

const text4 = (bytes, at) => String.fromCharCode(...bytes.subarray(at, at + 4));

// {kind, width, height} of a file's header; nothing is decoded before these are known.
function readHeader(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (!bytes.length) throw new Unreadable("the file is empty");
  if (bytes[0] === 0xff && bytes[1] === 0xd8 && bytes[2] === 0xff) return jpegHeader(bytes, view);
  if (view.byteLength > 32 && view.getUint32(0) === 0x89504e47) {
    return { kind: "PNG", width: view.getUint32(16), height: view.getUint32(20), deep: bytes[24] === 16 };
  }
  if (text4(bytes, 0) === "GIF8") return { kind: "GIF", width: view.getUint16(6, true), height: view.getUint16(8, true) };
  if (bytes[0] === 0x42 && bytes[1] === 0x4d && bytes.length > 26) {
    return { kind: "BMP", width: view.getInt32(18, true), height: Math.abs(view.getInt32(22, true)) };
  }
  if (text4(bytes, 0) === "RIFF" && text4(bytes, 8) === "WEBP") return webpHeader(bytes, view);
  const start = text4(bytes, 0);
  if (start === "II*\0" || start === "MM\0*") throw new Unreadable("a browser cannot read TIFF; save it as PNG");
  if (bytes.length > 132 && text4(bytes, 128) === "DICM") throw new Unreadable("DICOM is not read here; export it as PNG");
  throw new Unreadable("this is no image that can be read here; take JPEG, PNG, BMP, WebP or GIF");
}

function jpegHeader(bytes, view) {
  if (!endsWhole(bytes)) throw new Unreadable("the JPEG is cut off");
  let orientation = 0;
  for (let at = 2; at + 9 < bytes.length; ) {
    if (bytes[at] !== 0xff) { at += 1; continue; }
    const code = bytes[at + 1];
    if (code === 0xff || code === 0 || code === 1 || (code >= 0xd0 && code <= 0xd8)) { at += code === 0xff ? 1 : 2; continue; }
    if (code >= 0xc0 && code <= 0xcf && code !== 0xc4 && code !== 0xc8 && code !== 0xcc) {
      if (bytes[at + 9] === 4) throw new Unreadable("the JPEG has CMYK colours, which browsers turn each in their own way; save it as RGB");
      // Sampling factors of the first two components: 2 x 2 against 1 x 1 is colour at half size.
      const halfColour = bytes[at + 9] === 3 && bytes[at + 11] === 0x22 && bytes[at + 14] === 0x11;
      return { kind: "JPEG", width: view.getUint16(at + 7), height: view.getUint16(at + 5), halfColour, orientation: orientation || 1 };
    }
    if (code === 0xe1 && !orientation && text4(bytes, at + 4) === "Exif") orientation = readOrientation(view, at + 10);
    if (code === 0xda || code === 0xd9) break;
    at += 2 + view.getUint16(at + 2);
  }
  throw new Unreadable("the JPEG is damaged: it has no frame header");
}

// Of the tag 0x112 in the first directory of a TIFF block; 1 where there is none.
function readOrientation(view, start) {
  try {
    const little = view.getUint16(start) === 0x4949, first = start + view.getUint32(start + 4, little);
    for (let entry = 0; entry < view.getUint16(first, little); entry += 1) {
      const at = first + 2 + 12 * entry;
      if (view.getUint16(at, little) === 0x112) return view.getUint16(at + 8, little);
    }
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
  }
  return 1;
}

// The same JPEG without application segments of the first kind, so that no browser turns it.
function withoutExif(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength), kept = [bytes.subarray(0, 2)];
  let at = 2;
  while (at + 4 <= bytes.length && bytes[at] === 0xff && bytes[at + 1] >= 0xc0 && bytes[at + 1] !== 0xda) {
    const end = at + 2 + view.getUint16(at + 2);
    if (bytes[at + 1] !== 0xe1) kept.push(bytes.subarray(at, end));
    at = end;
  }
  return [...kept, bytes.subarray(at)];
}

// Whether there is an end-of-image marker: browsers draw what a cut file lacks in grey.
function endsWhole(bytes) {
  for (let at = bytes.length - 2; at >= 2; at -= 1) if (bytes[at] === 0xff && bytes[at + 1] === 0xd9) return true;
  return false;
}

function webpHeader(bytes, view) {
  const kind = text4(bytes, 12);
  const three = (at) => bytes[at] | (bytes[at + 1] << 8) | (bytes[at + 2] << 16);
  if (kind === "VP8X") return { kind: "WebP", width: three(24) + 1, height: three(27) + 1 };
  if (kind === "VP8 ") return { kind: "WebP", width: view.getUint16(26, true) & 0x3fff, height: view.getUint16(28, true) & 0x3fff };
  if (kind === "VP8L") {
    const bits = view.getUint32(21, true);
    return { kind: "WebP", width: (bits & 0x3fff) + 1, height: ((bits >>> 14) & 0x3fff) + 1 };
  }
  throw new Unreadable("the WebP is damaged");
}

// {image, header} of a file: RGB {data: Uint8ClampedArray of 3 a pixel, width, height} without a colour profile. A JPEG
// is as it is stored, others are upright.
async function readImage(bytes, document_) {
  const header = readHeader(bytes);
  const most = document_.input.max_pixels;
  if (header.width < 1 || header.height < 1) throw new Unreadable(`the ${header.kind} is damaged: its header says ${header.width} x ${header.height} pixels`);
  if (header.width * header.height > most) throw new Unreadable(`too large: ${header.width} x ${header.height} pixels, and at most ${most} are taken`);
  const bits = document_.steps.find((step) => step.do === "decode").bits;
  if (header.deep && bits < 16) throw new Unreadable(`its samples have 16 bits, and the student learned from ${bits}; scale them to 8`);
  const parts = header.kind === "JPEG" ? withoutExif(bytes) : [bytes];
  return { header, image: await pixelsOf(new Blob(parts), header.kind) };
}

async function pixelsOf(blob, kind) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(blob, { imageOrientation: "from-image", premultiplyAlpha: "none", colorSpaceConversion: "none" });
  } catch {
    throw new Unreadable(`the ${kind} is damaged: its pixels cannot be decoded`);
  }
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [bitmap.width, bitmap.height];
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  const drawn = context.getImageData(0, 0, canvas.width, canvas.height).data;
  const found = blank(canvas.width, canvas.height);
  for (let from = 0, to = 0; from < drawn.length; from += 4, to += 3) {
    // Where a pixel is not opaque a browser has mixed its colour already.
    if (drawn[from + 3] !== 255) throw new Unreadable("the picture has transparent parts; save it without");
    found.data[to] = drawn[from];
    found.data[to + 1] = drawn[from + 1];
    found.data[to + 2] = drawn[from + 2];
  }
  return found;
}

const blank = (width, height) => ({ data: new Uint8ClampedArray(width * height * 3), width, height });

// A canvas with an image.
function drawnOf(image) {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [image.width, image.height];
  const context = canvas.getContext("2d");
  const pixels = context.createImageData(image.width, image.height);
  for (let from = 0, to = 0; from < image.data.length; from += 3, to += 4) {
    pixels.data[to] = image.data[from];
    pixels.data[to + 1] = image.data[from + 1];
    pixels.data[to + 2] = image.data[from + 2];
    pixels.data[to + 3] = 255;
  }
  context.putImageData(pixels, 0, 0);
  return canvas;
}

// The image as a JPEG of that quality shows it: training saw decoded JPEG.
async function throughJpeg(image, quality) {
  const blob = await new Promise((done) => drawnOf(image).toBlob(done, "image/jpeg", quality / 100));
  if (blob === null) throw new Unreadable("this browser cannot make a JPEG of the picture");
  return pixelsOf(blob, "JPEG");
}
