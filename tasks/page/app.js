// The page: a photograph in, what the student says of it out. Nothing is sent anywhere.
"use strict";

const element = (id) => document.getElementById(id);
const held = (id) => JSON.parse(element(id).textContent);
const about = held("about"), preprocessing = held("preprocessing");
const steps = Object.fromEntries(preprocessing.steps.map((step) => [step.do, step]));
const SIDE = steps.network_size.side, BATCH = 16, PATCHES = 8;

function bytesOf(id) {
  const text = atob(element(id).textContent.trim()), found = new Uint8Array(text.length);
  for (let at = 0; at < text.length; at += 1) found[at] = text.charCodeAt(at);
  element(id).remove();
  return found;
}

async function unpacked(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// The network, once: ONNX Runtime Web with one thread and no worker, from what this file holds.
let starting = null;
function network() {
  starting ??= (async () => {
    const loader = await unpacked(bytesOf("ort-loader"));
    ort.env.wasm.numThreads = 1;
    ort.env.wasm.proxy = false;
    ort.env.wasm.wasmPaths = { mjs: URL.createObjectURL(new Blob([loader], { type: "text/javascript" })) };
    ort.env.wasm.wasmBinary = (await unpacked(bytesOf("ort-wasm"))).buffer;
    return ort.InferenceSession.create(await unpacked(bytesOf("network")), { executionProviders: ["wasm"] });
  })();
  return starting;
}

// Views RGB of SIDE x SIDE -> probabilities of each.
async function predict(views) {
  const session = await network(), found = [], size = SIDE * SIDE * 3;
  for (let start = 0; start < views.length; start += BATCH) {
    const batch = views.slice(start, start + BATCH), data = new Uint8Array(batch.length * size);
    batch.forEach((view, place) => data.set(view.data, place * size));
    const { logits } = await session.run({ image: new ort.Tensor("uint8", data, [batch.length, SIDE, SIDE, 3]) });
    const count = about.classes.length;
    batch.forEach((_, place) => {
      found.push(probabilities(Array.from(logits.data.slice(place * count, (place + 1) * count)), about.task));
    });
  }
  return found;
}

// What preprocessing.json says, step by step: {view, field, notes}.
async function prepare(bytes) {
  const { header, image: whole } = await readImage(bytes, preprocessing), notes = [];
  const at = (factor) => (header.kind === "JPEG" ? upright(scaledJpeg(whole, header, factor), header.orientation) : whole);
  let image, field = null;
  if (steps.encode.as === "keep") {
    image = at(1);
  } else {
    const wanted = header.kind === "JPEG" && steps.resize ? steps.resize.shorter_side : null;
    const factor = wanted === null ? 1 : jpegFactor(Math.min(whole.width, whole.height), wanted);
    image = at(factor);
    if (steps.mask) image = masked(image, steps.mask.polygons);
    else if (steps.crop) {
      field = findField(image, steps.crop.kind);
      if (field !== null) {
        const turned = header.orientation > 4 ? [whole.height, whole.width] : [whole.width, whole.height];
        const larger = wanted === null ? factor : jpegFactor(fieldSide(field, ...turned, steps.crop.kind), wanted);
        image = cropped(larger < factor ? at(larger) : image, field, steps.crop.kind);
      } else notes.push(NO_FIELD[steps.crop.kind]);
    }
    if (steps.resize) image = shortened(image, steps.resize.shorter_side);
    if (steps.encode.as === "jpeg") image = await throughJpeg(image, steps.encode.quality);
  }
  if (Math.min(whole.width, whole.height) < SIDE) notes.push(`The picture has ${whole.width} x ${whole.height} pixels, fewer than the ${SIDE} that the student looks at: it was enlarged.`);
  const view = squared(plainView(image, steps.plain_view.side), SIDE);
  if (spread(view) < 6) notes.push("The picture is nearly of one colour: there is nothing to judge.");
  return { view, field, notes };
}

const NO_FIELD = {
  fundus: "No round field of view was found on a dark margin, as fundus photographs have it: the frame was taken whole. If this is no fundus photograph, what follows means nothing.",
  endoscopy: "No field of an endoscope was found beside dark borders: the frame was taken whole. If this is no endoscopic frame, what follows means nothing.",
};

// Standard deviation of the brightness, in levels of 255.
function spread(view) {
  let sum = 0, squares = 0;
  const count = view.width * view.height;
  for (let at = 0; at < view.data.length; at += 3) {
    const grey = (view.data[at] + view.data[at + 1] + view.data[at + 2]) / 3;
    sum += grey;
    squares += grey * grey;
  }
  return Math.sqrt(Math.max(0, squares / count - (sum / count) ** 2));
}

const percent = (value) => `${(100 * value).toFixed(1)} %`;
const put = (id, text) => { element(id).textContent = text; };
const show = (id, shown) => { element(id).hidden = !shown; };
let shown = null;

async function look(file) {
  const turn_ = (shown = { file });
  ["result", "problem"].forEach((id) => show(id, false));
  put("status", `Looking at ${file.name} …`);
  show("status", true);
  try {
    await network();
    const started = performance.now();
    const prepared = await prepare(new Uint8Array(await file.arrayBuffer()));
    const ready = performance.now();
    const [prob] = await predict([prepared.view]);
    if (shown !== turn_) return;
    shown = { file, ...prepared, prob, times: [ready - started, performance.now() - ready] };
    tell();
  } catch (error) {
    if (shown !== turn_) return;
    put("problem", error instanceof Unreadable ? `Outside of what this student takes: ${error.message}.` : `This did not work: ${error.message}`);
    show("problem", true);
  } finally {
    if (shown?.file === file) show("status", false);
  }
}

function tell() {
  const { file, view, prob, notes, times } = shown;
  const { decided, how } = decide(prob, about), refer = referral(prob, about);
  put("name", file.name);
  put("decision", decided.map((place) => about.classes[place]).join(", ") || "none of the findings");
  put("confidence", about.task === "multilabel" ? how : `probability ${percent(prob[decided[0]])}; ${how}`);
  show("referral", refer !== null);
  element("referral").className = refer?.referred === null ? "" : refer?.referred ? "refer" : "clear";
  if (refer !== null) {
    const words = refer.referred === null ? "No threshold for referral is known" : refer.referred ? "Refer" : "Do not refer";
    const limit = refer.threshold === null ? "" : `, refers from ${percent(refer.threshold)} on`;
    put("referral", `${words}: probability of referable disease ${percent(refer.probability)}${limit}`);
  }
  put("time", `${times[0].toFixed(0)} ms to prepare the picture, ${times[1].toFixed(0)} ms in the network, on this machine`);
  element("notes").replaceChildren(...notes.map((note) => made("li", note)));
  element("bars").replaceChildren(...about.classes.map((name, place) => bar(name, prob[place], decided.includes(place))));
  element("view").replaceChildren(drawnOf(view));
  ["map-scale", "map-progress"].forEach((id) => show(id, false));
  element("explain").disabled = false;
  // For those who read the page by machine.
  element("result").dataset.probabilities = JSON.stringify(prob);
  element("result").dataset.decided = JSON.stringify(decided);
  element("result").dataset.referred = JSON.stringify(refer);
  show("result", true);
}

function made(tag, text) {
  const found = document.createElement(tag);
  found.textContent = text;
  return found;
}

function bar(name, value, strong) {
  const row = document.createElement("div"), track = document.createElement("span"), fill = document.createElement("span");
  row.className = strong ? "bar strong" : "bar";
  track.className = "track";
  fill.style.width = percent(value).replace(" ", "");
  track.append(fill);
  row.append(made("span", name), track, made("span", percent(value)));
  return row;
}

// How much the answer falls where a patch of the picture is painted over with the picture's mean colour.
async function explain() {
  const turn_ = shown, { view, prob } = shown;
  element("explain").disabled = true;
  const asked = (p) => referral(p, about)?.probability ?? p[decide(prob, about).decided[0] ?? prob.indexOf(Math.max(...prob))];
  const patch = Math.max(2, Math.round(SIDE / PATCHES)), stride = Math.max(1, Math.round(patch / 2));
  const mean = [0, 1, 2].map((channel) => {
    let sum = 0;
    for (let at = channel; at < view.data.length; at += 3) sum += view.data[at];
    return sum / (SIDE * SIDE);
  });
  const places = [];
  for (let y = 0; y < SIDE; y += stride) for (let x = 0; x < SIDE; x += stride) places.push([x, y]);
  const sums = new Float64Array(SIDE * SIDE), counts = new Float64Array(SIDE * SIDE);
  const each = ([x, y], paint) => {
    for (let row = y; row < Math.min(SIDE, y + patch); row += 1) for (let column = x; column < Math.min(SIDE, x + patch); column += 1) paint(row * SIDE + column);
  };
  show("map-progress", true);
  for (let start = 0; start < places.length; start += BATCH) {
    const batch = places.slice(start, start + BATCH);
    const covered = batch.map((place) => {
      const image = { ...view, data: view.data.slice() };
      each(place, (at) => image.data.set(mean, at * 3));
      return image;
    });
    (await predict(covered)).forEach((p, number) => {
      const fall = asked(prob) - asked(p);
      each(batch[number], (at) => { sums[at] += fall; counts[at] += 1; });
    });
    element("map-progress").value = (start + batch.length) / places.length;
    await new Promise((done) => setTimeout(done));
    if (shown !== turn_) return;
  }
  overlay(sums.map((sum, at) => sum / counts[at]));
  show("map-progress", false);
}

function overlay(falls) {
  const most = falls.reduce((a, b) => Math.max(a, Math.abs(b)), 1e-9), canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [SIDE, SIDE];
  const context = canvas.getContext("2d"), pixels = context.createImageData(SIDE, SIDE);
  falls.forEach((fall, at) => pixels.data.set([fall > 0 ? 255 : 40, 60, fall > 0 ? 30 : 255, 190 * Math.abs(fall / most)], at * 4));
  context.putImageData(pixels, 0, 0);
  element("view").append(canvas);
  put("map-scale", `Red: without this part the answer falls, at most by ${(100 * most).toFixed(1)} points; blue: it rises. A map shows what the network uses, not what is ill.`);
  show("map-scale", true);
}

element("file").addEventListener("change", (event) => { if (event.target.files[0]) look(event.target.files[0]); event.target.value = ""; });
element("explain").addEventListener("click", explain);
["dragover", "drop", "dragleave"].forEach((kind) => document.addEventListener(kind, (event) => {
  event.preventDefault();
  element("drop").classList.toggle("over", kind === "dragover");
  if (kind === "drop" && event.dataTransfer.files[0]) look(event.dataTransfer.files[0]);
}));
document.addEventListener("paste", (event) => { if (event.clipboardData.files[0]) look(event.clipboardData.files[0]); });
network().then(
  () => { put("status", "Ready."); document.body.dataset.ready = "yes"; },
  (error) => { put("problem", `The network cannot be started in this browser: ${error.message}`); show("problem", true); show("status", false); },
);
