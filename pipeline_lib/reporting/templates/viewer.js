"use strict";
// The slice viewer: NiiVue draws a CT with two overlays, truth and prediction, made here from the cases' ROI bits.
(async () => {
  const data = JSON.parse(document.getElementById("viewer-data").textContent);
  const element = (name) => document.getElementById(`viewer-${name}`);
  const root = document.getElementById("slice-viewer");
  const [caseBox, roiBox, methodBox] = ["case", "roi", "method"].map(element);
  const [truthBox, outlineBox, slicesBox] = ["truth", "outline", "slices"].map(element);
  const [windowBox, opacityBox] = ["window", "opacity"].map(element);
  const canvas = element("canvas");
  const TRUTH_COLOUR = [255, 255, 255];
  const ALL = -1;
  let current = null;

  const bytesOf = (base64) => Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  const unpacked = async (base64) => {
    const stream = new Blob([bytesOf(base64)]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Response(stream).arrayBuffer();
  };
  const rgb = (hex) => [1, 3, 5].map((place) => parseInt(hex.slice(place, place + 2), 16));
  const option = (value, text) => Object.assign(document.createElement("option"), { value, textContent: text });

  data.cases.forEach((each, place) => caseBox.append(option(place, `${each.dataset} / ${each.case}`)));
  roiBox.append(option(ALL, "all, coloured by ROI"));
  data.rois.forEach((label, place) => roiBox.append(option(place, label)));
  methodBox.append(option("", "none"));
  data.methods.forEach((method) => methodBox.append(option(method.name, method.label)));
  methodBox.value = data.methods[data.methods.length - 1].name;

  const nv = new niivue.Niivue({
    backColor: [0, 0, 0, 1],
    crosshairColor: [1, 1, 1, 0.45],
    crosshairWidth: 0.8,
    crosshairWidthUnit: "mm",
    dragAndDropEnabled: false,
    isColorbar: false,
    isRadiologicalConvention: true,
    loadingText: "",
    multiplanarShowRender: niivue.SHOW_RENDER ? niivue.SHOW_RENDER.NEVER : 0,
    show3Dcrosshair: false,
    isResizeCanvas: true,
  });
  nv.onLocationChange = (location) => {
    const [x, y, z] = Array.from(location.mm ?? []);
    const hu = location.values?.[0]?.value;
    if (x === undefined) return;
    const side = (value, positive, negative) => `${value < 0 ? negative : positive} ${Math.abs(value).toFixed(0)}`;
    const position = `${side(x, "R", "L")}, ${side(y, "A", "P")}, ${side(z, "S", "I")} mm`;
    element("status").textContent = hu === undefined ? position : `${position}: ${Math.round(hu)} HU`;
  };

  const image = async (base64, name, extra) =>
    niivue.NVImage.loadFromBase64({ base64, name: `${name}.nii.gz`, ...extra });

  const bitSet = (words, voxel, roi) =>
    // 64-bit labels come as pairs of 32-bit words, the lower one first.
    (words.values[words.step * voxel + (roi >> 5)] >>> (roi & 31)) & 1;

  // Labels of one overlay: in single mode 1 where the ROI is, else the number of the last ROI (tumours come after
  // their organs) that holds the voxel, plus one.
  const paint = (target, words, roi) => {
    let painted = 0;
    for (let voxel = 0; voxel < target.length; voxel += 1) {
      let value = 0;
      if (words !== null) {
        if (roi !== ALL) value = bitSet(words, voxel, roi);
        else for (let each = 0; each < data.rois.length; each += 1) if (bitSet(words, voxel, each)) value = each + 1;
      }
      target[voxel] = value;
      painted += value > 0;
    }
    return painted;
  };

  const colourMap = (roi, single) => {
    const colours = roi === ALL ? data.roiColours : [single];
    return {
      R: [0, ...colours.map((colour) => colour[0])],
      G: [0, ...colours.map((colour) => colour[1])],
      B: [0, ...colours.map((colour) => colour[2])],
      A: [0, ...colours.map(() => 255)],
      I: [0, ...colours.map((_, place) => place + 1)],
      labels: ["", ...(roi === ALL ? data.rois : [data.rois[roi]])],
    };
  };

  const wordsOf = async (name) => {
    const values = new Uint32Array(await unpacked(current.layers[name]));
    return { values, step: current.bytesPerVoxel / 4 };
  };

  const swatch = (colour, text) => {
    const item = document.createElement("span");
    const key = Object.assign(document.createElement("span"), { className: "key" });
    key.style.background = `rgb(${colour.join(",")})`;
    key.style.border = "1px solid #555";
    item.append(key, text);
    return item;
  };

  const describe = (roi, method) => {
    const legend = element("legend");
    legend.replaceChildren();
    // Two overlays coloured by ROI would hide each other.
    truthBox.disabled = roi === ALL && method !== undefined;
    if (roi === ALL) {
      legend.append(method ? `Prediction of ${method.label} (for the truth choose no prediction): ` : "Truth: ");
      data.rois.forEach((label, place) => legend.append(swatch(data.roiColours[place], label)));
      return;
    }
    if (!current.known.includes(roi)) legend.append("The truth of this ROI is not known for this case. ");
    else if (truthBox.checked) legend.append(swatch(TRUTH_COLOUR, "truth"));
    if (method) {
      const dice = current.dice[method.name]?.[data.roiNames[roi]];
      const score = dice === undefined ? "" : `, Dice ${dice.toFixed(1)} %`;
      legend.append(swatch(rgb(method.colour), `${method.label}${score}`));
    }
  };

  const showOverlays = async () => {
    const roi = Number(roiBox.value);
    const method = data.methods.find((each) => each.name === methodBox.value);
    const [, truth, prediction] = nv.volumes;
    const withTruth = truthBox.checked && !(roi === ALL && method);
    const painted = {
      truth: paint(truth.img, withTruth ? await wordsOf("truth") : null, roi),
      prediction: paint(prediction.img, method ? await wordsOf(method.name) : null, roi),
    };
    truth.setColormapLabel(colourMap(roi, TRUTH_COLOUR));
    prediction.setColormapLabel(colourMap(roi, method ? rgb(method.colour) : TRUTH_COLOUR));
    nv.updateGLVolume();
    describe(roi, method);
    root.dataset.truthVoxels = painted.truth;
    root.dataset.predictionVoxels = painted.prediction;
  };

  const largestPlace = async (roi) => {
    // Voxel (x, y, z) in the middle of the shown ROI, so that a new ROI is in view at once.
    const layer = current.known.includes(roi) ? "truth" : methodBox.value;
    if (roi === ALL || !layer) return null;
    const words = await wordsOf(layer);
    const [width, height, depth] = nv.volumes[0].hdr.dims.slice(1, 4);
    const areas = new Array(depth).fill(0);
    const total = width * height;
    for (let voxel = 0; voxel < total * depth; voxel += 1) areas[Math.floor(voxel / total)] += bitSet(words, voxel, roi);
    const z = areas.indexOf(Math.max(...areas));
    if (areas[z] === 0) return null;
    let [x, y] = [0, 0];
    for (let voxel = 0; voxel < total; voxel += 1) {
      if (bitSet(words, z * total + voxel, roi)) {
        x += voxel % width;
        y += Math.floor(voxel / width);
      }
    }
    return [Math.round(x / areas[z]), Math.round(y / areas[z]), z];
  };

  const goTo = async (roi) => {
    const voxel = await largestPlace(roi);
    if (voxel === null) return;
    const [width, height, depth] = nv.volumes[0].hdr.dims.slice(1, 4);
    // Voxels are stored in LPS order, NiiVue's fractions run in RAS.
    const [x, y, z] = voxel;
    nv.scene.crosshairPos = [1 - (x + 0.5) / width, 1 - (y + 0.5) / height, (z + 0.5) / depth];
    nv.drawScene();
    nv.createOnLocationChange();
  };

  const setWindow = () => {
    const [low, high] = windowBox.value.split(",").map(Number);
    nv.volumes[0].cal_min = low;
    nv.volumes[0].cal_max = high;
    nv.updateGLVolume();
  };

  const setOpacity = () => [1, 2].forEach((place) => nv.setOpacity(place, Number(opacityBox.value)));

  const setOutline = () => nv.setAtlasOutline(outlineBox.checked ? 1 : 0);

  const showCase = async () => {
    current = data.cases[Number(caseBox.value)];
    [...nv.volumes].reverse().forEach((volume) => nv.removeVolume(volume));
    const [low, high] = windowBox.value.split(",").map(Number);
    nv.addVolume(await image(current.ct, "ct", { colormap: "gray", cal_min: low, cal_max: high }));
    for (const name of ["truth", "prediction"]) {
      nv.addVolume(await image(current.empty, name, { opacity: Number(opacityBox.value) }));
    }
    await showOverlays();
    await goTo(Number(roiBox.value));
  };

  const next = (box) => {
    box.selectedIndex = (box.selectedIndex + 1) % box.options.length;
    box.dispatchEvent(new Event("change"));
  };
  // In the RAS frame of NiiVue: right, anterior, superior.
  const moves = {
    ArrowUp: [0, 0, 1], ArrowDown: [0, 0, -1], ArrowLeft: [1, 0, 0], ArrowRight: [-1, 0, 0],
    PageUp: [0, 1, 0], PageDown: [0, -1, 0],
  };
  canvas.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const action = {
      t: () => { if (truthBox.disabled) return; truthBox.checked = !truthBox.checked; truthBox.dispatchEvent(new Event("change")); },
      m: () => next(methodBox),
      r: () => next(roiBox),
      w: () => next(windowBox),
    }[event.key.toLowerCase()];
    if (moves[event.key]) nv.moveCrosshairInVox(...moves[event.key]);
    else if (action) action();
    else return;
    event.preventDefault();
    event.stopImmediatePropagation();
  }, true);

  // One change after the other: a slow case must not overtake a later choice.
  let last = Promise.resolve();
  const inTurn = (task) => () => { last = last.then(task).catch((error) => {
    element("status").textContent = `The viewer failed: ${error.message}`;
    console.error(error);
  }); return last; };
  caseBox.addEventListener("change", inTurn(showCase));
  roiBox.addEventListener("change", inTurn(async () => { await showOverlays(); await goTo(Number(roiBox.value)); }));
  for (const box of [methodBox, truthBox]) box.addEventListener("change", inTurn(showOverlays));
  outlineBox.addEventListener("change", setOutline);
  slicesBox.addEventListener("change", () => nv.setSliceType(Number(slicesBox.value)));
  windowBox.addEventListener("change", setWindow);
  opacityBox.addEventListener("input", setOpacity);

  // A link such as index.html#viewer?case=1&roi=0&method=baseline opens that view.
  const wanted = new URLSearchParams(location.hash.split("?")[1] ?? "");
  for (const [name, box] of Object.entries({ case: caseBox, roi: roiBox, method: methodBox, slices: slicesBox })) {
    if (wanted.has(name)) box.value = wanted.get(name);
  }
  if (wanted.get("truth") === "0") truthBox.checked = false;

  await inTurn(async () => {
    if (!canvas.getContext("webgl2")) throw new Error("this browser has no WebGL2");
    await nv.attachToCanvas(canvas);
    nv.setSliceType(Number(slicesBox.value));
    setOutline();
    await showCase();
    root.dataset.ready = "true";
    if (location.hash.startsWith("#viewer")) document.getElementById("viewer").scrollIntoView();
  })();
})();
