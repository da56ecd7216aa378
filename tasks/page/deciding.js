// From logits to probabilities, a decision and a referral: what about.json says of the student.
"use strict";

const FLOOR = 1e-12;
const NAMED = 0.5;

function probabilities(logits, task) {
  if (task === "multilabel") return logits.map((value) => 1 / (1 + Math.exp(-value)));
  return softmax(logits);
}

function softmax(logits) {
  const most = Math.max(...logits), raised = logits.map((value) => Math.exp(value - most));
  const sum = raised.reduce((a, b) => a + b, 0);
  return raised.map((value) => value / sum);
}

const logs = (prob) => prob.map((value) => Math.log(Math.max(value, FLOOR)));

// {decided: class numbers, how} of probabilities.
function decide(prob, about) {
  if (about.task === "multilabel") {
    return { decided: prob.flatMap((value, place) => (value >= NAMED ? [place] : [])), how: `named from a probability of ${NAMED} on` };
  }
  if (about.cut_points?.length) {
    const expected = prob.reduce((sum, value, place) => sum + value * place, 0);
    return { decided: [about.cut_points.filter((cut_) => cut_ <= expected).length], how: "by cut points fitted on validation images" };
  }
  const shift = about.logit_shift ?? [];
  const scores = logs(prob).map((value, place) => value + (shift[place] ?? 0));
  const how = shift.some((value) => value) ? "the likeliest after a shift chosen on validation images" : "the likeliest";
  return { decided: [scores.indexOf(Math.max(...scores))], how };
}

// {probability, threshold, referred} of referral; null where nothing is referred.
function referral(prob, about) {
  const point = about.operating_point ?? null;
  const temperature = point?.temperature ?? about.temperature ?? 1;
  const calibrated = softmax(logs(prob).map((value) => value / temperature));
  let probability = null;
  if (about.task === "ordinal" && about.referable != null) {
    probability = Math.min(1, calibrated.slice(about.referable).reduce((a, b) => a + b, 0));
  } else if (about.task === "single" && about.classes.length === 2 && about.classes.includes("referable")) {
    probability = calibrated[about.classes.indexOf("referable")];
  }
  if (probability === null) return null;
  return { probability, threshold: point?.threshold ?? null, referred: point ? probability >= point.threshold : null };
}
