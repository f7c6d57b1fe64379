// The report: scan, map, probabilities and facts on one page, drawn as a picture.
import { abstainSentence, className, drawnSentence, methodName, modelName, NO_METHOD, percent, setSentence } from "./names.js";
import { png } from "./parts.js";

// A4 at 150 dots per inch.
const WIDTH = 1240, HEIGHT = 1754, MARGIN = 96;
const INK = "#17212b", MUTED = "#5a6772", LINE = "#d5dbe0", ACCENT = "#1b6e80", PALE = "#b9c4cc", WARN = "#8a3b12";
const FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', 'DejaVu Sans', sans-serif";

const short = value => value.toLocaleString("en", { maximumSignificantDigits: 3 });

/** Return the facts of an answer, as pairs of name and text. */
export function facts(answer) {
  const time = Object.entries(answer.milliseconds ?? {}).map(([part, ms]) => `${part} ${ms.toFixed(1)} ms`).join(", ");
  const unlike = answer.unlike_training;
  return [
    ["Model", modelName(answer.model)],
    ["Trained on", `${answer.dataset}${answer.synthetic ? " (synthetic images only)" : ""}`],
    ["Data version", answer.data_version],
    ["Image", `${answer.image.width} × ${answer.image.height} pixels, scaled to ${answer.image.size} × ${answer.image.size}`],
    ...(unlike ? [["Distance from training data", `${short(unlike.score)} (limit ${short(unlike.threshold)})`]] : []),
    ...(time ? [["Time taken", time]] : []), // a batch has one time for all files
    ["Answered", answer.time.toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "medium" })],
    ["Request", answer.request_id],
  ];
}

/** Download the report on an answer, with the map as displayed. */
export async function saveReport(scan, answer, display) {
  const canvas = await drawReport(scan, answer, display);
  const blob = await new Promise(done => canvas.toBlob(done, "image/png"));
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = `${scan.name.replace(/\.[^.]+$/, "")}-report.png`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

async function drawReport(scan, answer, { method, opacity }) {
  const canvas = Object.assign(document.createElement("canvas"), { width: WIDTH, height: HEIGHT });
  const page = new Page(canvas.getContext("2d"));
  page.text("Brain-tumour MRI classifier", 26, MUTED);
  page.text(scan.name, scan.name.length > 80 ? 22 : 44, INK, "600"); // in large type it would push the facts off the page
  page.text(answer.notice, 26, WARN, "600");
  if (drawnSentence(scan, answer)) page.text(drawnSentence(scan, answer), 26, WARN);
  page.rule();
  if (method !== NO_METHOD) await drawMap(page, answer, method, opacity);
  const headline = answer.abstain ? "No answer" : `${className(answer.label)}, ${percent(answer.probabilities[answer.label])}`;
  page.text(headline, 52, INK, "600");
  if (answer.abstain) page.text(abstainSentence(answer), 26, WARN);
  for (const [name, share] of Object.entries(answer.probabilities)) page.bar(className(name), share, answer.set.includes(name));
  page.text(setSentence(answer), 26, MUTED);
  page.rule();
  for (const [term, value] of facts(answer)) page.fact(term, value);
  return canvas;
}

/** Draw the network's input, without and with the map. */
async function drawMap(page, answer, method, opacity) {
  const explanation = answer.explanations[method];
  const [picture, map, legend] = await Promise.all(
    [png(answer.scan), png(explanation.overlay), "ui/legend.png"].map(load),
  );
  const side = (WIDTH - 2 * MARGIN - 32) / 2, top = page.y;
  page.picture(picture, MARGIN, top, side);
  page.picture(picture, MARGIN + side + 32, top, side);
  page.picture(map, MARGIN + side + 32, top, side, opacity / 100);
  page.y = top + side + 8;
  const target = className(explanation.target).toLowerCase();
  page.columns(["The network's input", `${methodName(method)} for ${target}, opacity ${opacity} %`], side + 32);
  page.legend(legend, MARGIN + side + 32);
  page.rule();
}

function load(source) {
  const image = new Image();
  image.src = source;
  return image.decode().then(() => image);
}

/** A canvas that is filled from top to bottom; y: where the next item goes, in pixels. */
class Page {
  constructor(context) {
    this.context = context;
    this.y = MARGIN;
    context.textBaseline = "top";
    context.fillStyle = "#fff";
    context.fillRect(0, 0, WIDTH, HEIGHT);
  }

  write(text, x, y, size, colour = INK, weight = "400", align = "left") {
    Object.assign(this.context, { font: `${weight} ${size}px ${FONT}`, fillStyle: colour, textAlign: align });
    this.context.fillText(text, x, y);
  }

  /** Write text from x to the right margin. */
  text(text, size, colour = INK, weight = "400", x = MARGIN) {
    this.context.font = `${weight} ${size}px ${FONT}`;
    for (const line of this.lines(text, WIDTH - MARGIN - x)) {
      this.write(line, x, this.y, size, colour, weight);
      this.y += size * 1.35;
    }
    this.y += size * 0.15;
  }

  /** Break text in the current font between words, and inside words that are longer than a line. */
  lines(text, width) {
    const fits = part => this.context.measureText(part).width <= width;
    const pieces = text.split(" ").flatMap(word => (fits(word) ? [` ${word}`] : [" ", ...word]));
    const lines = [""];
    for (const piece of pieces) {
      const longer = (lines.at(-1) + piece).trimStart();
      if (fits(longer)) lines[lines.length - 1] = longer;
      else lines.push(piece.trimStart());
    }
    return lines;
  }

  columns(texts, step) {
    texts.forEach((text, i) => this.write(text, MARGIN + i * step, this.y, 24, MUTED));
    this.y += 40;
  }

  rule() {
    this.context.fillStyle = LINE;
    this.context.fillRect(MARGIN, this.y + 12, WIDTH - 2 * MARGIN, 2);
    this.y += 36;
  }

  picture(image, x, y, side, opacity = 1) {
    this.context.globalAlpha = opacity;
    this.context.drawImage(image, x, y, side, side);
    this.context.globalAlpha = 1;
  }

  legend(image, x) {
    this.write("0", x, this.y, 22, MUTED);
    this.context.fillStyle = "#000";
    this.context.fillRect(x + 24, this.y + 2, 240, 20);
    this.context.drawImage(image, x + 24, this.y + 2, 240, 20);
    this.write("map's maximum", x + 276, this.y, 22, MUTED);
    this.y += 30;
  }

  bar(name, share, isIn) {
    const left = MARGIN + 220, width = 560;
    this.write(name, MARGIN, this.y, 28, INK, isIn ? "600" : "400");
    this.context.fillStyle = "#eef1f3";
    this.context.fillRect(left, this.y + 3, width, 22);
    this.context.fillStyle = isIn ? ACCENT : PALE;
    this.context.fillRect(left, this.y + 3, width * share, 22);
    this.write(percent(share), left + width + 120, this.y, 28, INK, isIn ? "600" : "400", "right");
    if (isIn) this.write("in the set", left + width + 140, this.y + 2, 24, MUTED);
    this.y += 46;
  }

  fact(term, value) {
    this.write(term, MARGIN, this.y, 24, MUTED);
    this.text(value, 24, INK, "400", MARGIN + 370);
  }
}
